//! Mappings as they are written.

use super::*;

#[test]
fn every_mapping_that_comes_with_the_program_is_readable() -> Result<()> {
    for (name, _) in SHIPPED {
        Mapping::open(name)?;
    }
    Ok(())
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let text = "encoder: {embedding: e, recurrent: r, layer: 2}\ndecoder: {}\n";
    let error = Mapping::read(text, Path::new("m.yaml")).err().map(|e| e.to_string());
    assert_eq!(error.as_deref(), Some("m.yaml:1:encoder.layer: unknown key `layer`"));
}

#[test]
fn patterns_stand_for_any_letters() {
    for (pattern, name, fits) in [
        ("optim.*", "optim.state.0", true),
        ("optim.*", "model.optim.x", false),
        ("*.running_*", "a.running_mean", true),
        ("exact", "exact", true),
        ("exact", "exactly", false),
        ("*", "", true),
    ] {
        assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
    }
}

#[test]
fn layers_and_directions_have_the_names_that_pytorch_gives_them() {
    let named = Cells::Name("encoder.rnn".to_owned());
    assert_eq!(named.names(1, true)[0].as_deref(), Some("encoder.rnn.weight_ih_l1_reverse"));
    let text = "{weight_ih: 'rnn.{layer}.weight_ih', weight_hh: w, bias_ih: 'b{layer}'}";
    let listed: Cells = yaml::from_str(text, "m.yaml", ErrorKind::Config).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(
        listed.names(2, false),
        [Some("rnn.2.weight_ih".to_owned()), None, Some("b2".to_owned()), None]
    );
}
