//! The YAML at the head of a bundle's README, as model hubs read it.
//!
//! The keys are those of Hugging Face's model cards: <https://huggingface.co/docs/hub/model-cards>.

use s2s_runtime::manifest::{Languages, Provenance, quote};

/// Licences that the hub knows by a name of its own, of those that data has.
const LICENCES: [&str; 31] = [
    "apache-2.0",
    "mit",
    "openrail",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc",
    "cc0-1.0",
    "cc-by-2.0",
    "cc-by-2.5",
    "cc-by-3.0",
    "cc-by-4.0",
    "cc-by-sa-3.0",
    "cc-by-sa-4.0",
    "cc-by-nc-2.0",
    "cc-by-nc-3.0",
    "cc-by-nc-4.0",
    "cc-by-nd-4.0",
    "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0",
    "cc-by-nc-sa-4.0",
    "gpl-2.0",
    "gpl-3.0",
    "lgpl-3.0",
    "agpl-3.0",
    "mpl-2.0",
    "odbl",
    "odc-by",
    "pddl",
    "unlicense",
];

/// The block with the lines around it: licence of the data (`unknown` where nobody says it, `other` with a
/// name for one that the hub does not know), languages, tags, task and library. Every text is quoted where
/// YAML needs it.
pub(crate) fn front_matter(
    name: &str,
    languages: Option<&Languages>,
    provenance: Option<&Provenance>,
    tags: &[&str],
    pipeline_tag: &str,
) -> String {
    let (license, license_name) = licence(provenance.and_then(|provenance| provenance.licence.as_deref()));
    let (mut language, mut language_bcp47) = (Vec::new(), Vec::new());
    for tag in languages.into_iter().flat_map(|languages| [&languages.source, &languages.target]).flatten() {
        let primary = tag.split(['-', '_']).next().unwrap_or_default().to_lowercase();
        let is_code =
            (2..=3).contains(&primary.len()) && primary.bytes().all(|byte| byte.is_ascii_lowercase());
        if is_code && !language.contains(&primary) {
            language.push(primary.clone());
        }
        if *tag != primary && !language_bcp47.contains(tag) {
            language_bcp47.push(tag.clone());
        }
    }
    // Everything quoted: `no` is a language, and false to a reader of YAML 1.1.
    let list =
        |texts: Vec<&str>| format!("[{}]", texts.into_iter().map(quote).collect::<Vec<_>>().join(", "));
    let texts =
        |texts: &[String]| (!texts.is_empty()).then(|| list(texts.iter().map(String::as_str).collect()));
    let entries = [
        ("license", Some(quote(&license))),
        ("license_name", license_name.as_deref().map(quote)),
        ("language", texts(&language)),
        ("language_bcp47", texts(&language_bcp47)),
        ("tags", Some(list(tags.to_vec()))),
        ("pipeline_tag", Some(quote(pipeline_tag))),
        ("library_name", Some(quote("onnx"))),
        ("model_name", Some(quote(name))),
    ];
    let lines = entries.into_iter().filter_map(|(key, value)| Some(format!("{key}: {}\n", value?)));
    format!("---\n{}---\n\n", lines.collect::<String>())
}

/// The hub's name of a licence, and what it is called where the hub has none.
fn licence(text: Option<&str>) -> (String, Option<String>) {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
        return ("unknown".to_owned(), None);
    };
    let mut slug = String::new();
    for c in text.chars() {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() || c == '.' => slug.push(c),
            _ if !slug.is_empty() && !slug.ends_with('-') => slug.push('-'),
            _ => {}
        }
    }
    let slug = slug.trim_end_matches(['-', '.']);
    let name = if slug == "cc0" { "cc0-1.0" } else { slug };
    match LICENCES.contains(&name) {
        true => (name.to_owned(), None),
        false => (
            "other".to_owned(),
            Some(if slug.is_empty() { "unnamed".to_owned() } else { slug.chars().take(64).collect() }),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, licence: Option<&str>, languages: [Option<&str>; 2]) -> serde_json::Value {
        let [source, target] = languages.map(|code| code.map(str::to_owned));
        let provenance = Provenance { licence: licence.map(str::to_owned), ..Provenance::default() };
        let text = front_matter(
            name,
            Some(&Languages { source, target }),
            Some(&provenance),
            &["onnx"],
            "translation",
        );
        let inner = text.strip_prefix("---\n").and_then(|text| text.strip_suffix("---\n\n"));
        assert!(inner.is_some_and(|inner| !inner.contains("\n---")), "{text}");
        serde_yaml::from_str(inner.unwrap_or_default()).unwrap_or_default()
    }

    #[test]
    fn a_licence_is_named_as_the_hub_names_it_or_kept_under_its_own_name() {
        for (text, license, name) in [
            (Some("CC-BY 2.0"), "cc-by-2.0", None),
            (Some("CC0"), "cc0-1.0", None),
            (Some(" MIT "), "mit", None),
            (Some("CC-BY 2.0 (France)"), "other", Some("cc-by-2.0-france")),
            (Some("\u{4ec5}\u{4f9b}\u{7814}\u{7a76}"), "other", Some("unnamed")),
            (Some("  "), "unknown", None),
            (None, "unknown", None),
        ] {
            let found = read("m", text, [None, None]);
            assert_eq!(
                (found["license"].as_str(), found["license_name"].as_str()),
                (Some(license), name),
                "{text:?}"
            );
        }
    }

    #[test]
    fn odd_texts_are_still_yaml_and_come_back_as_they_were() {
        for name in [
            "plain",
            "a: b # c",
            "---",
            "- x",
            "no",
            "1.0",
            "\"quoted\" 'twice'",
            "two\nlines\n---\n",
            "\u{1f600} \u{4f60}\u{597d}",
            "{a: [b",
        ] {
            assert_eq!(read(name, Some(name), [Some("no"), Some("zh-Hans")])["model_name"], name);
        }
        let found = read("m", None, [Some("no"), Some("zh-Hans")]);
        assert_eq!(
            (&found["language"], &found["language_bcp47"]),
            (&serde_json::json!(["no", "zh"]), &serde_json::json!(["zh-Hans"]))
        );
        assert_eq!((&found["library_name"], &found["pipeline_tag"]), (&"onnx".into(), &"translation".into()));
        assert_eq!(read("m", None, [Some("nonsense: [x"), None])["language"], serde_json::Value::Null);
    }
}
