//! How alike two names of tensors are: `h` and `next_h`, `past.0.key` and `present.0.key`.

/// What says of a name when a tensor is read or written, not which one it is.
const TIMES: [&str; 14] = [
    "next", "new", "prev", "previous", "past", "present", "out", "output", "in", "input", "last", "init",
    "initial", "prime",
];

/// The words of a name that say which tensor it is, in lower case: numbers are words of their own.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut last = None;
    for c in name.chars() {
        let kind = match c {
            _ if c.is_ascii_digit() => Some('0'),
            _ if c.is_alphanumeric() => Some('a'),
            _ => None,
        };
        match (kind, words.last_mut()) {
            (Some(_), Some(word)) if kind == last => word.extend(c.to_lowercase()),
            (Some(_), _) => words.push(c.to_lowercase().collect()),
            (None, _) => {}
        }
        last = kind;
    }
    let kept: Vec<String> = words.iter().filter(|word| !TIMES.contains(&word.as_str())).cloned().collect();
    if kept.is_empty() { words } else { kept }
}

/// Whether one of the words is one of `others`, or begins with it.
pub(super) fn has(name: &str, others: &[&str]) -> bool {
    words(name)
        .iter()
        .any(|word| others.iter().any(|other| word == other || other.len() > 2 && word.starts_with(other)))
}

/// How alike two names are, from 0 to 1; 1 is the same tensor at another time.
pub(super) fn alike(a: &str, b: &str) -> f64 {
    if a == b {
        return 1.0;
    }
    let (a, b) = (words(a), words(b));
    if a == b {
        return 0.95;
    }
    let common = a.iter().filter(|word| b.contains(word)).count();
    // A number alone says which layer, or which of several versions: `h2` is the next `h`.
    let letters = |words: &[String]| -> Vec<String> {
        words.iter().filter(|word| !word.starts_with(|c: char| c.is_ascii_digit())).cloned().collect()
    };
    if !letters(&a).is_empty() && letters(&a) == letters(&b) {
        return 0.5 + 0.3 * common as f64 / a.len().max(b.len()) as f64;
    }
    0.5 * 2.0 * common as f64 / (a.len() + b.len()).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_is_known_again_at_another_time() {
        for (a, b) in [("h", "next_h"), ("past.0.key", "present.0.key"), ("state_h_1", "new_state_h_1")] {
            assert!(alike(a, b) > 0.9, "{a} {b}");
        }
        assert!(alike("h", "h2") > alike("h", "c2"));
        assert!(alike("past.0.key", "present.0.key") > alike("past.0.key", "present.1.key"));
        assert!(alike("past.0.key", "present.0.value") < alike("past.0.key", "present.0.key"));
        assert!(alike("Identity_1:0", "h") < 0.1);
        assert!(has("src_lengths", &["len"]) && has("attention_mask", &["mask"]) && !has("h", &["hid"]));
    }
}
