//! The page of what was measured.

use super::*;

/// The table of docs/lint.md: each case that some runtime does not run rightly.
fn table() -> String {
    let mut table =
        "| rule | case | wrong without an error | refused | slow |\n|---|---|---|---|---|\n".to_owned();
    for rule in rules::all() {
        let mut cases: Vec<&str> = measured::cases(rule.id).map(|(case, _)| case).collect();
        cases.dedup();
        let mut begins = true;
        let mut right = Vec::new();
        for case in cases {
            let of = |kind: &str| -> Vec<String> {
                let said = |runtime: Runtime| {
                    let forms = [Form::Static, Form::Symbolic].map(|form| {
                        let measured = measured::cases(rule.id).any(|found| found == (case, form));
                        measured::of_case(rule.id, case, form, runtime).filter(|_| measured)
                    });
                    let is = |outcome: &Option<Outcome>| outcome.as_ref().is_some_and(|o| o.name() == kind);
                    let only = match (&forms[0], &forms[1]) {
                        (Some(_), Some(_)) if is(&forms[0]) && !is(&forms[1]) => ", fixed axes",
                        (Some(_), Some(_)) if is(&forms[1]) && !is(&forms[0]) => ", free axes",
                        _ => "",
                    };
                    let error = match forms.iter().flatten().find(|outcome| outcome.name() == kind)? {
                        Outcome::Wrong { error: Some(error), .. } => format!(" {error}"),
                        Outcome::Slow { ratio } => format!(" {ratio} x"),
                        _ => String::new(),
                    };
                    Some(format!("{runtime}{error}{only}"))
                };
                Runtime::all().filter_map(said).collect()
            };
            let columns = ["wrong without an error", "refused", "slow"].map(|kind| of(kind).join("; "));
            if columns.iter().all(String::is_empty) {
                right.push(case);
                continue;
            }
            let name = if std::mem::take(&mut begins) {
                format!("`{}`: {}", rule.id, rule.about)
            } else {
                String::new()
            };
            table.push_str(&format!("| {name} | {case} | {} |\n", columns.join(" | ")));
        }
        if begins && !right.is_empty() {
            table.push_str(&format!("| `{}`: {} | all | | | |\n", rule.id, rule.about));
        }
    }
    let versions: Vec<String> =
        Runtime::all().map(|runtime| format!("{runtime} {}", runtime.version())).collect();
    table.push_str(&format!("\nVersions: {}.\n", versions.join(", ")));
    table
}

#[test]
fn the_documentation_has_what_was_measured() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/lint.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once("<!-- rules -->\n").unwrap();
    let (found, tail) = rest.split_once("<!-- /rules -->").unwrap();
    let expected = table();
    if std::env::var("S2S_RENEW").is_ok_and(|value| value == "1") {
        std::fs::write(&path, format!("{head}<!-- rules -->\n{expected}<!-- /rules -->{tail}")).unwrap();
    } else {
        assert_eq!(found, expected, "S2S_RENEW=1 writes the table anew");
    }
}
