//! Times before lines, as `kubectl logs --timestamps` shows them.

use jiff::Timestamp;

use super::super::super::arrivals::Arrivals;

/// Puts the time of its first byte before each line, in whatever pieces the log is read.
#[derive(Debug)]
pub(super) struct Stamper {
    at_line_start: bool,
}

impl Stamper {
    /// One that begins at the start of a line.
    pub(super) fn new() -> Self {
        Self { at_line_start: true }
    }

    /// The piece at `position` of the log with its times.
    pub(super) fn stamp(&mut self, piece: &[u8], position: u64, arrivals: &Arrivals) -> Vec<u8> {
        let now = Timestamp::now();
        arrivals.has_reached(position + piece.len() as u64, now);
        let mut stamped = Vec::with_capacity(piece.len() * 5 / 4);
        let mut position = position;
        for line in piece.split_inclusive(|byte| *byte == b'\n') {
            if self.at_line_start {
                // Its mark is missing only if the container emptied the log meanwhile.
                let time = arrivals.at(position).unwrap_or(now);
                stamped.extend_from_slice(format!("{time:.9} ").as_bytes());
            }
            stamped.extend_from_slice(line);
            self.at_line_start = line.ends_with(b"\n");
            position += line.len() as u64;
        }
        stamped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_stamped_once_however_they_are_cut() {
        let arrivals = Arrivals::default();
        arrivals.is_long(4, Timestamp::from_second(1).unwrap());
        arrivals.is_long(12, Timestamp::new(2, 500_000_000).unwrap());
        let log = b"one\ntwo\nend\n";
        let expected = "1970-01-01T00:00:01.000000000Z one\n1970-01-01T00:00:02.500000000Z two\n\
                        1970-01-01T00:00:02.500000000Z end\n";
        for cut in 1..=log.len() {
            let mut stamper = Stamper::new();
            let mut all = Vec::new();
            for (index, piece) in log.chunks(cut).enumerate() {
                all.extend(stamper.stamp(piece, (index * cut) as u64, &arrivals));
            }
            assert_eq!(String::from_utf8(all).unwrap(), expected, "in pieces of {cut}");
        }
    }
}
