// What node:test found, a line each, and the sums as scripts/test reads them of every program of tests.
export default async function* report(source) {
  const counts = { passed: 0, failed: 0 };
  for await (const { type, data } of source) {
    if (type === "test:diagnostic" && data.nesting === 1) yield `    ${data.message}\n`;
    if ((type !== "test:pass" && type !== "test:fail") || data.nesting > 0 || data.name.endsWith(".mjs")) continue;
    if (data.skip !== undefined) yield `skipped: ${data.name}: ${data.skip}\n`;
    else yield `${type === "test:pass" ? "ok" : "FAILED"}: ${data.name} (${Math.round(data.details.duration_ms)} ms)\n`;
    if (type === "test:fail") yield `${data.details.error?.cause?.stack ?? data.details.error}\n`;
    counts[type === "test:pass" ? "passed" : "failed"]++;
  }
  yield `test result: ${counts.failed > 0 ? "FAILED" : "ok"}. ${counts.passed} passed; ${counts.failed} failed; 0 ignored;\n`;
}
