//! Output as documents show it: `...` for what varies.

/// Whether `actual` is what `expected` shows: line by line without spaces at their ends, `...` within a line
/// for any characters, a line of `...` alone for any number of lines.
pub(crate) fn matches(expected: &str, actual: &str) -> bool {
    let expected: Vec<&str> = expected.trim_end().lines().collect();
    let actual: Vec<&str> = actual.trim_end().lines().collect();
    glob(
        &expected,
        &actual,
        |pattern| pattern.trim() == "...",
        |pattern, line| {
            // Pieces between the dots, in order; the first and the last are bound to the ends.
            let pieces: Vec<&str> = pattern.trim_end().split("...").collect();
            let (Some((first, rest)), mut line) = (pieces.split_first(), line.trim_end()) else {
                return false;
            };
            let Some(after) = line.strip_prefix(first) else { return false };
            line = after;
            let Some((last, middle)) = rest.split_last() else { return line.is_empty() };
            for piece in middle {
                let Some(at) = line.find(piece) else { return false };
                line = &line[at + piece.len()..];
            }
            line.ends_with(last)
        },
    )
}

/// Sequences against a pattern whose `any` items stand for any number of items.
fn glob<P: Copy, T: Copy>(
    pattern: &[P],
    items: &[T],
    any: impl Fn(P) -> bool,
    same: impl Fn(P, T) -> bool,
) -> bool {
    // reached[j]: the pattern so far takes exactly the first j items.
    let mut reached = vec![false; items.len() + 1];
    reached[0] = true;
    for &p in pattern {
        let mut next = vec![false; items.len() + 1];
        if any(p) {
            let first = reached.iter().position(|&r| r).unwrap_or(next.len());
            next[first..].fill(true);
        } else {
            for (j, &item) in items.iter().enumerate() {
                next[j + 1] = reached[j] && same(p, item);
            }
        }
        reached = next;
    }
    reached[items.len()]
}

#[test]
fn dots_stand_for_what_varies_and_nothing_else_does() {
    let same = [
        ("a\nb", "a\nb\n"),
        ("a 1... s", "a 12 s"),
        ("...", ""),
        ("...", "a\nb"),
        ("a\n...\nz", "a\nz"),
        ("a\n...\nz", "a\nb\nc\nz"),
        ("a ...", "a b"),
        ("epoch ... of ..., loss ...", "epoch 1 of 5, loss 0.3"),
    ];
    for (expected, actual) in same {
        assert!(matches(expected, actual), "{expected:?} {actual:?}");
    }
    let other = [
        ("a", "b"),
        ("a\nb", "a"),
        ("a", "a\nb"),
        ("a 1... s", "a 12"),
        ("a\n...\nz", "a\nb"),
        ("a ... b", "a c"),
        ("", "a"),
    ];
    for (expected, actual) in other {
        assert!(!matches(expected, actual), "{expected:?} {actual:?}");
    }
}
