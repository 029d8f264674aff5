//! Where `quote()` stands in a shell's script. Its quotes make a word only where the shell expects a word.

use super::check::check_text;
use super::error::shown;
use super::template::{Piece, pieces};
use super::{Checked, Fault, Names, Type, parse};

/// Checks a text that a shell may read, as [`check_text`] does, and that nothing quoted stands where its quotes do not hold.
#[must_use]
pub fn check_script(text: &str, names: &Names) -> Checked {
    let mut checked = check_text(text, names);
    let mut line = Line::default();
    let pieces = pieces(text).unwrap_or_default();
    for (i, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Text(text) => line.read(text),
            Piece::Expression(expression) => {
                let place = line.template();
                let Ok(tree) = parse::parse(expression) else { continue };
                if !parse::quotes(&tree) {
                    continue;
                }
                let kind = super::infer::walk(&tree, Some(names)).kind;
                let rest = pieces[i + 1..].iter().find_map(|piece| match piece {
                    Piece::Text(text) => Some(*text),
                    Piece::Expression(_) => None,
                });
                checked.faults.extend(misplaced(expression, &kind, place, rest.unwrap_or_default()));
            }
        }
    }
    checked
}

/// `rest` is the text behind the template.
fn misplaced(expression: &str, kind: &Type, place: Place, rest: &str) -> Option<Fault> {
    let rest = rest.lines().next().unwrap_or_default();
    let (place, remedy) = match place {
        // An apostrophe of a text in a heredoc opens nothing: then no other one closes it.
        Place::Single if rest.contains('\'') => ("between quotes, where its own mean nothing", "take the quotes away"),
        Place::Double if rest.contains('"') => ("between quotes, where its own mean nothing", "take the quotes away"),
        Place::Comment => ("in a comment, which a line break in the text would end", "take it out of the comment"),
        // Rendered as JSON, it would stand in double quotes.
        _ if matches!(kind.present(), Type::List | Type::Map(_)) => {
            ("in a list or an object, which is written as JSON", "write quote(<list>), which gives the words")
        }
        Place::Word | Place::Space | Place::Single | Place::Double => return None,
    };
    Some(Fault::Misplaced { expression: shown(expression), place, remedy })
}

/// What a character of a line of a script stands in.
#[derive(Clone, Copy, Default, PartialEq)]
enum Place {
    /// A `#` begins a comment here.
    #[default]
    Space,
    Word,
    Single,
    Double,
    Comment,
}

/// A line of a script as far as it was read. It begins anew with each line: a text over several lines is rare, and to take one for
/// another would refuse what is right.
#[derive(Default)]
struct Line {
    place: Place,
    escaped: bool,
}

impl Line {
    /// Where a template stands. Behind it no comment begins.
    fn template(&mut self) -> Place {
        let place = self.place;
        if place == Place::Space {
            self.place = Place::Word;
        }
        place
    }

    fn read(&mut self, text: &str) {
        for character in text.chars() {
            if character == '\n' {
                *self = Self::default();
                continue;
            }
            if self.escaped {
                self.escaped = false;
                continue;
            }
            self.escaped = character == '\\' && self.place != Place::Single && self.place != Place::Comment;
            self.place = match (self.place, character) {
                (Place::Space, '#') | (Place::Comment, _) => Place::Comment,
                (Place::Single, '\'') | (Place::Double, '"') => Place::Word,
                (inside @ (Place::Single | Place::Double), _) => inside,
                (_, '\'') => Place::Single,
                (_, '"') => Place::Double,
                (_, ' ' | '\t' | ';' | '|' | '&' | '(' | ')') => Place::Space,
                _ => Place::Word,
            };
        }
    }
}
