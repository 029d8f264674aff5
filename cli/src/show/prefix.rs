//! Whose line it is: the stage before each line of a log, in a colour of its own.

use std::collections::BTreeMap;

use anstyle::{AnsiColor, Style};

use super::style::paint;

const COLOURS: [AnsiColor; 6] =
    [AnsiColor::Cyan, AnsiColor::Green, AnsiColor::Magenta, AnsiColor::Yellow, AnsiColor::Blue, AnsiColor::BrightCyan];

/// The stages that were seen, in the order in which their lines came.
pub struct Prefixes {
    on: bool,
    seen: BTreeMap<String, Style>,
    width: usize,
}

impl Prefixes {
    pub fn new(on: bool) -> Self {
        Self { on, seen: BTreeMap::new(), width: 0 }
    }

    /// `train | `, and `train#2 | ` of its second attempt.
    pub fn of(&mut self, stage: &str, attempt: u32) -> String {
        if !self.on {
            return String::new();
        }
        let next = COLOURS[self.seen.len() % COLOURS.len()].on_default();
        let style = *self.seen.entry(stage.to_owned()).or_insert(next);
        let name = if attempt > 1 { format!("{stage}#{attempt}") } else { stage.to_owned() };
        self.width = self.width.max(name.chars().count());
        paint(&format!("{name:<width$} | ", width = self.width), style)
    }
}

#[cfg(test)]
mod tests {
    use super::super::style::stripped;
    use super::*;

    #[test]
    fn a_line_says_whose_it_is() {
        let mut prefixes = Prefixes::new(true);
        let said = [("train", 1), ("fit", 1), ("train", 2), ("fit", 1)]
            .map(|(stage, attempt)| stripped(&prefixes.of(stage, attempt)));
        assert_eq!(said, ["train | ", "fit   | ", "train#2 | ", "fit     | "]);
        assert_ne!(prefixes.of("fit", 1), prefixes.of("train", 1), "each has its colour");
        assert_eq!(Prefixes::new(false).of("train", 1), "");
    }
}
