//! Pickles by their bytes.

use super::*;

fn said(bytes: &[u8]) -> String {
    read(bytes, &mut 0).map(|_| "nothing".to_owned()).unwrap_or_else(|e| e.message().to_owned())
}

#[test]
fn values_are_those_that_python_pickled() -> Result<()> {
    // pickle.dumps(OrderedDict(a=[1, -2, 70000], b=None), protocol=2), and one that refers to itself.
    let bytes = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(X\x01\x00\x00\x00aq\x02]q\x03\
        (K\x01J\xfe\xff\xff\xffJp\x11\x01\x00eX\x01\x00\x00\x00bq\x04Nu.]q\x00h\x00a.";
    let mut at = 0;
    let pickle = read(bytes, &mut at)?;
    let entries = pickle.entries(pickle.root()).unwrap_or_default();
    let keys: Vec<_> = entries.iter().filter_map(|(key, _)| pickle.text(*key)).collect();
    assert_eq!(keys, ["a", "b"]);
    let numbers: Vec<_> = pickle.list(entries[0].1).unwrap_or_default().iter().collect();
    assert_eq!(numbers.into_iter().filter_map(|&at| pickle.integer(at)).collect::<Vec<_>>(), [1, -2, 70000]);
    let circle = read(bytes, &mut at)?;
    assert_eq!((circle.list(circle.root()), at), (Some(&[circle.root()][..]), bytes.len()));
    Ok(())
}

#[test]
fn a_call_is_remembered_and_not_made() -> Result<()> {
    let bytes = b"cos\nsystem\n(X\x04\x00\x00\x00echotR.";
    let pickle = read(bytes, &mut 0)?;
    assert!(matches!(pickle.get(pickle.root()), Value::Object(_, None)));
    assert_eq!(pickle.class(pickle.root()).as_deref(), Some("os.system"));
    Ok(())
}

#[test]
fn what_no_weights_need_is_refused_and_so_is_what_is_cut_off() {
    for (bytes, expected) in [
        (&b"(ios\nsystem\n."[..], "has the opcode 0x69, 'i', which no weights need"),
        (b"\x82\x01.", "has the opcode 0x82, which no weights need"),
        (b"X\xff\xff\xff\xffab", "is cut off"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffab", "is cut off"),
        (b"t.", "closes what it did not open"),
        (b"K\x01(0.", "takes more than there is"),
        (b"K\x01K\x02a.", "appends to what is no list"),
        (b"h\x07.", "asks for what it did not keep"),
        (b"", "is cut off"),
    ] {
        let message = said(bytes);
        assert!(message.contains(expected), "{message}");
    }
}
