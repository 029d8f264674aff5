//! What the drawings of all reports share: how one begins, and the colours.

use crate::html::escape;

/// Colours that differ in hue and in lightness; a series beyond them begins again.
pub const COLOURS: [&str; 8] =
    ["var(--one,#2563ab)", "var(--two,#c2611f)", "#1a7f4b", "#8b5bb5", "#b59a1e", "#c0392b", "#3a9fb0", "#7a7a7a"];

/// The opening tag and the title. The drawing ends with `</svg>`.
pub fn open(title: &str, width: f64, height: f64) -> String {
    let title = escape(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         font-family=\"system-ui,sans-serif\" font-size=\"12\" fill=\"currentColor\" role=\"img\">\n<title>{title}</title>\n\
         <text x=\"8\" y=\"16\" font-weight=\"600\">{title}</text>\n"
    )
}

/// A number as an axis or a table has room for it.
pub fn number(value: f64) -> String {
    if value != 0.0 && !(0.001..1e6).contains(&value.abs()) {
        return format!("{value:.2e}");
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
