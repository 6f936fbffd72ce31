//! PNG out of SVG, with the fonts of the machine.

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};

use crate::error::{Error, ErrorKind, Result};

/// Largest side in pixels.
const LARGEST: f32 = 16_384.0;

/// Draws an SVG, `scale` pixels a unit.
///
/// # Errors
/// [`ErrorKind::Usage`] if the picture would be too large or the machine has no font.
pub fn render(svg: &str, scale: f32) -> Result<Vec<u8>> {
    let mut options = Options::default();
    let fonts = options.fontdb_mut();
    fonts.load_system_fonts();
    if fonts.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "no font was found to draw text with").help("write SVG instead: --graph svg"));
    }
    let internal = |e: String| Error::new(ErrorKind::Internal, format!("the picture cannot be drawn: {e}"));
    let tree = Tree::from_str(svg, &options).map_err(|e| internal(e.to_string()))?;
    let scale = scale.min(LARGEST / tree.size().width().max(tree.size().height()));
    let (width, height) = ((tree.size().width() * scale).ceil() as u32, (tree.size().height() * scale).ceil() as u32);
    let mut pixels = Pixmap::new(width, height).ok_or_else(|| internal("it has no size".to_owned()))?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    pixels.encode_png().map_err(|e| internal(e.to_string()))
}
