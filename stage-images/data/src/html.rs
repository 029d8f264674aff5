//! HTML and SVG text. Whatever comes from data or parameters goes through [`escape`].

/// Text as it may stand between tags and in quoted attributes.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Not allowed in XML, so not in an SVG file either.
            control if control.is_control() && !matches!(control, '\n' | '\t') => safe.push('\u{FFFD}'),
            other => safe.push(other),
        }
    }
    safe
}

/// A whole page. `title` is text, `body` is HTML. No script, and the policy allows none.
pub fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n{body}</main>\n</body>\n</html>\n"
    )
}

/// A table from a header and rows of cells. Cells are HTML already.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = String>| {
        cells.map(|cell| format!("<{tag}>{cell}</{tag}>")).collect::<Vec<_>>().concat()
    };
    let head = cells("th", &mut header.iter().map(|name| escape(name)));
    let body: String = rows
        .iter()
        .map(|row| format!("<tr>{}</tr>\n", cells("td", &mut row.iter().cloned())))
        .collect::<Vec<_>>()
        .concat();
    format!("<div class=\"wide\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n")
}

const STYLE: &str = ":root{color-scheme:light dark;--ink:#1b1f24;--soft:#5b6570;--line:#d5dae0;--paper:#fff;--well:#f5f7f9;\
--good:#1a7f4b;--bad:#c0342b;--warn:#9a6700;--one:#2563ab;--two:#c2611f}\n\
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ed;--soft:#9aa5b1;--line:#363d45;--paper:#14171a;--well:#1d2126;\
--good:#4cc38a;--bad:#ff7b72;--warn:#d9a52a;--one:#6aa9ef;--two:#f0975a}}\n\
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}\n\
main{max-width:70rem;margin:0 auto;padding:2rem 1rem}\nh1{font-size:1.5rem;margin:0 0 1rem}\nh2{font-size:1.1rem;margin:2rem 0 .5rem}\n\
.wide{overflow-x:auto}\ntable{border-collapse:collapse;font-variant-numeric:tabular-nums}\n\
th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top}\n\
th{color:var(--soft);font-weight:600}\ncode,pre{font:13px/1.5 ui-monospace,monospace}\n\
pre{background:var(--well);padding:.6rem .8rem;overflow-x:auto}\n.pass{color:var(--good)}\n.fail{color:var(--bad);font-weight:600}\n\
.warn{color:var(--warn);font-weight:600}\n.soft{color:var(--soft)}\n.figures{display:flex;flex-wrap:wrap;gap:1.5rem}\n\
figure{margin:0}\nfigcaption{color:var(--soft)}\nsvg{max-width:100%;height:auto;color:var(--ink)}\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_data_stays_text() {
        assert_eq!(escape("<script>'\"&\u{0}"), "&lt;script&gt;&#39;&quot;&amp;\u{FFFD}");
        assert!(page("<b>", "").contains("<title>&lt;b&gt;</title>"));
    }
}
