
"use strict";
// A request as it is typed into a shell, JavaScript or Python: any text comes out as it was.
const CODE = (() => {
  // Signs that cannot be seen, or that turn the order of others, are written as their numbers.
  const UNSEEN = /[\u007f-\u00a0\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff]/g;
  const quoted = (value, indent) => JSON.stringify(value, null, indent).replace(UNSEEN, (sign) => "\\u" + sign.charCodeAt(0).toString(16).padStart(4, "0"));
  // Within single quotes a shell takes everything as it stands, but for the quote.
  const shell = (text) => "'" + text.replaceAll("'", "'\\''") + "'";
  const python = (value) => {
    if (value === true) return "True";
    if (value === false) return "False";
    if (value === null) return "None";
    if (Array.isArray(value)) return "[" + value.map(python).join(", ") + "]";
    if (typeof value === "object") return "{" + Object.entries(value).map(([key, item]) => quoted(key) + ": " + python(item)).join(", ") + "}";
    return quoted(value);
  };
  const body = (text, parameters) => Object.keys(parameters).length ? { text_input: text, parameters } : { text_input: text };
  // url: where the text is sent; lines: the texts; parameters: decoding options; key: whether the server wants one.
  return {
    curl: ({ url, lines, parameters, key }) => lines.map((line) =>
      `curl ${shell(url)} \\\n  -H 'content-type: application/json' \\\n${key ? '  -H "authorization: Bearer $S2S_API_KEY" \\\n' : ""}  --data-raw ${shell(quoted(body(line, parameters)))}\n`).join("\n"),
    javascript: ({ url, lines, parameters, key }) => `for (const text_input of ${quoted(lines, lines.length > 1 ? 2 : 0)}) {
  const response = await fetch(${quoted(url)}, {
    method: "POST",
    headers: { "content-type": "application/json"${key ? ', authorization: "Bearer YOUR_KEY"' : ""} },
    body: JSON.stringify({ text_input${Object.keys(parameters).length ? ", parameters: " + quoted(parameters) : ""} }),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.message);
  console.log(answer.text_output);
}
`,
    python: ({ url, lines, parameters, key }) => `import json
${key ? "import os\n" : ""}import urllib.request

for text in ${lines.length > 1 ? "[\n" + lines.map((line) => "    " + quoted(line) + ",\n").join("") + "]" : python(lines)}:
    body = {"text_input": text${Object.keys(parameters).length ? ', "parameters": ' + python(parameters) : ""}}
    headers = {"Content-Type": "application/json"${key ? ', "Authorization": "Bearer " + os.environ["S2S_API_KEY"]' : ""}}
    request = urllib.request.Request(${quoted(url)}, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as response:
        print(json.load(response)["text_output"])
`,
  };
})();
