//! Makes text that a backend controls safe to show: in a terminal, in Markdown, in an HTML page.
//!
//! Control characters, bidirectional and other invisible characters become visible escapes; Markdown carries no
//! live link, image, mention or markup of theirs, and in a page their text is text within an element.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar;

/// Whether a character changes how others are shown, or is not seen itself.
#[must_use]
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

pub(super) fn push_visible(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if (c as u32) < 0x100 => {
            // Writing to a String does not fail.
            let _ = write!(out, "\\x{:02x}", c as u32);
        }
        c => {
            let _ = write!(out, "\\u{{{:x}}}", c as u32);
        }
    }
}

/// Whether what follows a `#` makes it the beginning of a command of Azure Pipelines (`##[`, `##vso[`), TeamCity
/// (`##teamcity[`) or their like.
fn is_hash_command(rest: &str) -> bool {
    rest.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c == '[' || c.is_ascii_alphabetic()))
}

/// One line for a terminal or a CI log: what would steer it, or is not seen, stands as an escape (`\x1b`, `\u{202e}`,
/// `\n`), and a backslash as two. What a CI runner reads as a command of its own (`::` at the beginning of a line,
/// however far indented; `##[`, `##vso[` and the like anywhere) is broken likewise.
#[must_use]
pub fn terminal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut blank = true;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let command = (blank && rest.as_str().starts_with(':') && c == ':')
            || (c == '#' && is_hash_command(rest.as_str()));
        if c == '\\' {
            out.push_str("\\\\");
        } else if command || is_deceptive(c) {
            push_visible(&mut out, c);
        } else {
            out.push(c);
        }
        blank &= c.is_whitespace();
    }
    out
}

/// As [`terminal`], for bytes: what is not UTF-8 stands as `\xNN`.
#[must_use]
pub fn terminal_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(&terminal(chunk.valid()));
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Many lines for a terminal: as [`terminal_bytes`], but line feeds and tabs are kept.
#[must_use]
pub fn terminal_lines(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if number > 0 {
            out.push('\n');
        }
        for (place, part) in line.split(|byte| *byte == b'\t').enumerate() {
            if place > 0 {
                out.push('\t');
            }
            out.push_str(&terminal_bytes(part));
        }
    }
    out
}

/// Lines that are whole already, for a terminal: line feeds, tabs and backslashes stand, everything else that would
/// steer a terminal, or is not seen, becomes an escape. The last fence behind [`terminal`], which it does not undo.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_deceptive(c) && !matches!(c, '\n' | '\t') {
            push_visible(&mut out, c);
        } else {
            out.push(c);
        }
    }
    out
}

/// JSON text for a terminal: the same value, with whatever would steer a terminal, or is not seen, as JSON's own escape.
/// (Such a character stands in a string; the one that may stand elsewhere, a carriage return, is a space.)
#[must_use]
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut units = [0; 2];
    for c in text.chars() {
        match c {
            '\r' => out.push(' '),
            c if is_deceptive(c) && !matches!(c, '\n' | '\t') => {
                for unit in c.encode_utf16(&mut units) {
                    // Writing to a String does not fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out
}

/// Text in running Markdown, behind other text of the line: what could begin or end markup is escaped, and what a
/// forge makes a mention or reference of (`@`, `#`, `!`, ...) is parted from what follows by a word joiner, because
/// such links are made after Markdown was read. Punctuation that means nothing within a line stays as it is, for those
/// who read the source.
#[must_use]
pub fn markdown(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\\' {
            visible.push_str("\\\\");
        } else if is_deceptive(c) {
            push_visible(&mut visible, c);
        } else {
            visible.push(c);
        }
    }
    let mut out = String::with_capacity(visible.len() * 2);
    let mut before = None;
    let mut chars = visible.chars().peekable();
    while let Some(c) = chars.next() {
        push_markdown(&mut out, before, c, chars.peek().copied());
        before = Some(c);
    }
    out
}

fn push_markdown(out: &mut String, before: Option<char>, c: char, after: Option<char>) {
    let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let escaped = match c {
        // An underscore between letters is no emphasis; a dot or colon before a space makes no link.
        '_' => !(word(before) && word(after)),
        '.' | ':' => after.is_some_and(|c| !c.is_whitespace()),
        ',' | ';' | '?' | '=' | '(' | ')' | '\'' | '"' | '-' | '+' | '{' | '}' => false,
        c => c.is_ascii_punctuation(),
    };
    if escaped {
        out.push('\\');
    }
    out.push(c);
    if matches!(c, '@' | '#' | '!' | '$' | '%' | '&' | '~' | '^' | '/') {
        out.push('\u{2060}');
    }
}

/// A Markdown code span that nothing in the text can end, also within a table: `|` stands as `\x7c`.
#[must_use]
pub fn markdown_code(text: &str) -> String {
    let inner = terminal(text).replace('|', "\\x7c");
    let mut longest = 0;
    let mut run = 0;
    for c in inner.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    let fence = "`".repeat(longest + 1);
    let edge = |c: char| c == '`' || c == ' ';
    if inner.trim().is_empty() {
        // An empty span would be none at all.
        format!("{fence}\u{a0}{fence}")
    } else if inner.starts_with(edge) || inner.ends_with(edge) {
        // One space beside each fence is taken away by the reader.
        format!("{fence} {inner} {fence}")
    } else {
        format!("{fence}{inner}{fence}")
    }
}

/// Most characters of no width that are shown on one other, as they are: more than any script needs, too few to reach
/// into the lines above and below.
const MAX_MARKS: usize = 4;

/// Text within an HTML element: `&`, `<`, `>` and quotes as references, whatever is deceptive, no character at all, or
/// one of a pile of combining marks as a visible escape in `<span class="x">`, which no text can make. Never for
/// attributes: the span is markup.
#[derive(Debug, Clone, Copy)]
pub struct Html<'a>(pub &'a str);

impl maud::Render for Html<'_> {
    fn render_to(&self, out: &mut String) {
        push_html(out, self.0.as_bytes(), false);
    }
}

/// As [`Html`], for bytes: what is not UTF-8 stands as `\xNN`.
#[derive(Debug, Clone, Copy)]
pub struct HtmlBytes<'a>(pub &'a [u8]);

impl maud::Render for HtmlBytes<'_> {
    fn render_to(&self, out: &mut String) {
        push_html(out, self.0, false);
    }
}

/// As [`Html`], for text of many lines: line feeds and tabs stand.
#[derive(Debug, Clone, Copy)]
pub struct HtmlLines<'a>(pub &'a str);

impl maud::Render for HtmlLines<'_> {
    fn render_to(&self, out: &mut String) {
        push_html(out, self.0.as_bytes(), true);
    }
}

/// Appends what [`HtmlBytes`] renders to, with `lines` as [`HtmlLines`] does.
pub fn push_html(out: &mut String, bytes: &[u8], lines: bool) {
    let mut open = false;
    let mut span = |out: &mut String, wanted: bool| {
        if open != wanted {
            out.push_str(if wanted { "<span class=\"x\">" } else { "</span>" });
            open = wanted;
        }
    };
    let mut marks = 0;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let no_width = c.width() == Some(0);
            marks = if no_width { marks + 1 } else { 0 };
            let stands = lines && matches!(c, '\n' | '\t');
            let escaped = (is_deceptive(c) && !stands) || is_no_character(c) || marks > MAX_MARKS;
            span(out, escaped);
            match c {
                c if escaped => push_visible(out, c),
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '"' => out.push_str("&quot;"),
                '\'' => out.push_str("&#39;"),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            marks = 0;
            span(out, true);
            // Writing to a String does not fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    span(out, false);
}

/// Code points that are set aside for no character ever: a parser of HTML takes them for errors.
fn is_no_character(c: char) -> bool {
    (c as u32) & 0xfffe == 0xfffe || ('\u{fdd0}'..='\u{fdef}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use maud::Render;
    use proptest::prelude::*;

    #[test]
    fn html_is_text_alone() {
        let html = |text: &str| Html(text).render().into_string();
        assert_eq!(html("<a href='x'>&amp;\""), "&lt;a href=&#39;x&#39;&gt;&amp;amp;&quot;");
        assert_eq!(html("a\r\n\tb\0"), "a<span class=\"x\">\\r\\n\\t</span>b<span class=\"x\">\\x00</span>");
        assert_eq!(HtmlLines("a\n\tb\r").render().into_string(), "a\n\tb<span class=\"x\">\\r</span>");
        assert_eq!(html("\u{2028}\u{202e}x"), "<span class=\"x\">\\u{2028}\\u{202e}</span>x");
        assert_eq!(
            html("\u{fffe}\u{1ffff}\u{fdd0}"),
            "<span class=\"x\">\\u{fffe}\\u{1ffff}\\u{fdd0}</span>"
        );
        assert_eq!(HtmlBytes(b"a\xff\xfeb").render().into_string(), "a<span class=\"x\">\\xff\\xfe</span>b");
        assert_eq!(html("häßlich 漢字 🎉 שָׁלוֹם"), "häßlich 漢字 🎉 שָׁלוֹם");
    }

    #[test]
    fn a_pile_of_marks_is_taken_apart() {
        let html = |text: &str| Html(text).render().into_string();
        let few = format!("e{}", "\u{301}".repeat(MAX_MARKS));
        assert_eq!(html(&few), few);
        let many = html(&format!("e{}f", "\u{301}".repeat(9)));
        assert_eq!(many, format!("{few}<span class=\"x\">{}</span>f", "\\u{301}".repeat(5)));
    }

    #[test]
    fn whole_lines_keep_their_form_and_lose_what_steers() {
        assert_eq!(shown("a\tb\n\\x1b \u{1b}[2J\u{202e}"), "a\tb\n\\x1b \\x1b[2J\\u{202e}");
        assert_eq!(shown(&terminal("\u{1b}\\")), terminal("\u{1b}\\"));
    }

    #[test]
    fn json_for_a_terminal_is_the_same_json() {
        let value = serde_json::json!({ "a\u{9b}b": ["\u{202e}\u{7f}\u{e0041}\\", "ä\n\r\u{1b}"] });
        let text = serde_json::to_string_pretty(&value).unwrap().replace('\n', "\r\n");
        let shown = json(&text);
        assert!(shown.contains("\"a\\u009bb\"") && shown.contains("\\u202e\\u007f\\udb40\\udc41"), "{shown}");
        assert!(!shown.chars().any(|c| is_deceptive(c) && c != '\n'), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    #[test]
    fn what_steers_a_terminal_is_shown() {
        assert_eq!(terminal("a\x1b[31m\u{9b}b\u{202e}c\nd\\"), "a\\x1b[31m\\x9bb\\u{202e}c\\nd\\\\");
        assert_eq!(terminal_bytes(b"a\xff\xfe\x07"), "a\\xff\\xfe\\x07");
        assert_eq!(terminal_lines(b"a\r\n\tb\x1b"), "a\\r\n\tb\\x1b");
        assert_eq!(terminal("häßlich 漢字 🎉"), "häßlich 漢字 🎉");
    }

    #[test]
    fn no_line_is_a_runners_command() {
        assert_eq!(terminal("::stop-commands::x"), "\\x3a:stop-commands::x");
        assert_eq!(terminal("  ::add-mask::x"), "  \\x3a:add-mask::x");
        assert_eq!(terminal("a::b"), "a::b");
        assert_eq!(terminal("x ##[add-mask]e"), "x \\x23#[add-mask]e");
        assert_eq!(terminal_lines(b"ok\n\t::error::y\n"), "ok\n\t\\x3a:error::y\n");
    }

    #[test]
    fn markdown_is_inert() {
        assert_eq!(markdown("[x](http://e.org)"), "\\[x\\](http\\:\\/\u{2060}\\/\u{2060}e\\.org)");
        assert_eq!(markdown("a_b _c_ www.x.org. No-link: ok."), "a_b \\_c\\_ www\\.x\\.org. No-link: ok.");
        assert_eq!(markdown("@ann #1"), "\\@\u{2060}ann \\#\u{2060}1");
        assert_eq!(markdown("<b>&amp;"), "\\<b\\>\\&\u{2060}amp;");
        assert_eq!(markdown("a\nb"), "a\\\\nb");
    }

    #[test]
    fn a_code_span_cannot_be_left() {
        assert_eq!(markdown_code("a"), "`a`");
        assert_eq!(markdown_code("a``b"), "```a``b```");
        assert_eq!(markdown_code("a|b\n"), "`a\\x7cb\\n`");
        assert_eq!(markdown_code("`a "), "`` `a  ``");
        assert_eq!(markdown_code(""), "`\u{a0}`");
        assert_eq!(markdown_code(" "), "`\u{a0}`");
    }

    proptest! {
        #[test]
        fn nothing_deceptive_gets_through(text in any::<String>()) {
            prop_assert!(!terminal(&text).chars().any(is_deceptive));
            let joiner = '\u{2060}';
            prop_assert!(!markdown(&text).chars().any(|c| is_deceptive(c) && c != joiner));
            prop_assert!(!markdown_code(&text).chars().any(is_deceptive));
        }

        #[test]
        fn bytes_come_out_as_safe_lines(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(!terminal_bytes(&bytes).chars().any(is_deceptive));
            let page = HtmlBytes(&bytes).render().into_string();
            prop_assert!(!page.chars().any(is_deceptive));
            let rest = page.replace("<span class=\"x\">", "").replace("</span>", "");
            prop_assert!(!rest.contains(['<', '>', '"', '\'']), "{page:?}");
            prop_assert!(!terminal_lines(&bytes).chars().any(|c| is_deceptive(c) && c != '\n' && c != '\t'));
        }

        #[test]
        fn what_is_shown_tells_texts_apart(a in "[a\\\\nx1b\n\u{1b}]{0,6}", b in "[a\\\\nx1b\n\u{1b}]{0,6}") {
            prop_assert_eq!(terminal(&a) == terminal(&b), a == b);
        }

        #[test]
        fn punctuation_that_can_mark_up_is_escaped(text in any::<String>()) {
            let out: Vec<char> = markdown(&text).chars().collect();
            let mut place = 0;
            while place < out.len() {
                let next = out.get(place + 1).copied();
                match out[place] {
                    '\\' => {
                        prop_assert!(next.is_some_and(|c| c.is_ascii_punctuation()));
                        place += 1;
                    }
                    '.' | ':' => prop_assert!(next.is_none_or(char::is_whitespace)),
                    '_' => {
                        let before = place.checked_sub(1).and_then(|at| out.get(at)).copied();
                        prop_assert!(before.is_some_and(char::is_alphanumeric) && next.is_some_and(char::is_alphanumeric));
                    }
                    c => {
                        let harmless = !c.is_ascii_punctuation() || ",;?=()'\"-+{}".contains(c);
                        prop_assert!(harmless, "{c:?}");
                    }
                }
                place += 1;
            }
        }

        #[test]
        fn a_code_span_holds_no_run_as_long_as_its_fence(text in "[`a| \\\\]{0,20}") {
            let span = markdown_code(&text);
            let fence = span.chars().take_while(|c| *c == '`').count();
            let inner = &span[fence..span.len() - fence];
            prop_assert!(!inner.split(|c| c != '`').any(|run| run.len() == fence));
            prop_assert!(!inner.contains('|') && !inner.starts_with('`') && !inner.ends_with('`'));
        }
    }
}
