//! PNG out of SVG, with fonts that the program carries: the same pixels on every machine.

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};

use crate::error::{Error, ErrorKind, Result};

/// Largest side in pixels.
const LARGEST: f32 = 16_384.0;

/// DejaVu Sans for Latin-1 and a few signs; fonts/README.md says how they were cut.
const FONTS: [&[u8]; 2] =
    [include_bytes!("fonts/DejaVuSans.ttf"), include_bytes!("fonts/DejaVuSans-Bold.ttf")];

/// Draws an SVG, `scale` pixels a unit.
///
/// # Errors
/// [`ErrorKind::Internal`] if it is not an SVG.
pub fn render(svg: &str, scale: f32) -> Result<Vec<u8>> {
    let mut options = Options { font_family: "DejaVu Sans".to_owned(), ..Options::default() };
    let fonts = options.fontdb_mut();
    FONTS.iter().for_each(|font| fonts.load_font_data(font.to_vec()));
    // A graph of others may have names in any script: the machine's fonts are then looked through for each
    // missing character.
    if svg.chars().any(|c| !is_covered(c)) {
        fonts.load_system_fonts();
    }
    let internal = |e: String| Error::new(ErrorKind::Internal, format!("the picture cannot be drawn: {e}"));
    let tree = Tree::from_str(svg, &options).map_err(|e| internal(e.to_string()))?;
    let scale = scale.min(LARGEST / tree.size().width().max(tree.size().height()));
    let (width, height) =
        ((tree.size().width() * scale).ceil() as u32, (tree.size().height() * scale).ceil() as u32);
    let mut pixels = Pixmap::new(width, height).ok_or_else(|| internal("it has no size".to_owned()))?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    pixels.encode_png().map_err(|e| internal(e.to_string()))
}

/// Whether a font that is carried, or one of this machine, has a character: what no font has is drawn as any
/// such character is.
pub fn has_font_for(c: char) -> bool {
    let drawn = |c: char| {
        let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"32\" height=\"32\" font-family=\"DejaVu \
            Sans\">";
        render(&format!("{svg}<text x=\"4\" y=\"24\" font-size=\"20\">{c}</text></svg>"), 1.0).ok()
    };
    is_covered(c) || drawn(c) != drawn(NOWHERE)
}

/// A character of a plane for private use, which no font of a machine should have.
const NOWHERE: char = '\u{10fffd}';

/// Whether the carried fonts have a character.
fn is_covered(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{ff}' | '\u{2190}'..='\u{2195}')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// How many pixels are dark.
    fn ink(text: &str, bold: bool) -> usize {
        let weight = if bold { " font-weight=\"bold\"" } else { "" };
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"200\" height=\"30\" font-family=\"{}\"><rect \
             width=\"200\" height=\"30\" \
             fill=\"#fff\"/><text x=\"5\" y=\"20\" font-size=\"16\"{weight}>{text}</text></svg>",
            crate::inspect::svg::FONT
        );
        let pixels = Pixmap::decode_png(&render(&svg, 1.0).unwrap()).unwrap();
        pixels.pixels().iter().filter(|p| p.red() < 128).count()
    }

    #[test]
    fn a_character_that_no_font_has_is_known_to_be_missing() {
        assert!(has_font_for('a') && has_font_for('\u{2192}'));
        // Another private character, in no font either.
        assert!(!has_font_for('\u{10fff0}'));
        // The judgement is that of the picture: a letter is drawn, and looks like no other.
        let mut fonts = resvg::usvg::fontdb::Database::new();
        fonts.load_system_fonts();
        let has_chinese =
            fonts.faces().any(|face| face.families.iter().any(|(name, _)| name.contains("CJK")));
        assert!(has_font_for('图') || !has_chinese);
    }

    #[test]
    fn text_is_drawn_with_the_carried_fonts() {
        let (light, heavy) = (ink("encoder.lstm_0", false), ink("encoder.lstm_0", true));
        assert!(light > 200 && heavy > light + 50, "{light} {heavy}");
        assert_eq!(ink("", false), 0);
        // Every character that is said to be there is: none is drawn as nothing.
        for c in ('!'..='~').chain(['\u{d7}', '\u{2192}']) {
            let escaped = format!("&#{};", u32::from(c));
            assert!(is_covered(c) && ink(&escaped, false) > 0, "{c}");
        }
    }
}
