//! Messages of Protocol Buffers, as far as they say how they are read: numbered fields, one after the other. Nothing is copied.

/// It is no such message, or one that is not read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// The fields of a message that are not read yet.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(pub &'a [u8]);

/// What a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire<'a> {
    Varint(u64),
    Eight(&'a [u8]),
    Four(&'a [u8]),
    /// A text, a message, or packed numbers.
    Long(&'a [u8]),
}

impl<'a> Fields<'a> {
    /// The next field with its number. Nothing at the end.
    pub fn next(&mut self) -> Result<Option<(u64, Wire<'a>)>, Unreadable> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = varint(&mut self.0)?;
        let wire = match key & 7 {
            0 => Wire::Varint(varint(&mut self.0)?),
            1 => Wire::Eight(take(&mut self.0, 8)?),
            2 => {
                let length = usize::try_from(varint(&mut self.0)?).map_err(|_| Unreadable)?;
                Wire::Long(take(&mut self.0, length)?)
            }
            5 => Wire::Four(take(&mut self.0, 4)?),
            // Groups, which the third version of the language does not have.
            _ => return Err(Unreadable),
        };
        Ok(Some((key >> 3, wire)))
    }
}

pub fn varint(bytes: &mut &[u8]) -> Result<u64, Unreadable> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Unreadable)
}

pub fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Unreadable> {
    let (head, rest) = bytes.split_at_checked(length).ok_or(Unreadable)?;
    *bytes = rest;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_field_is_read_and_what_is_cut_off_is_not() {
        // 1: 300, 2: "hi", 3: four bytes, 4: eight.
        let bytes = b"\x08\xac\x02\x12\x02hi\x1d1234\x2112345678";
        let mut fields = Fields(bytes);
        assert_eq!(fields.next(), Ok(Some((1, Wire::Varint(300)))));
        assert_eq!(fields.next(), Ok(Some((2, Wire::Long(b"hi")))));
        assert_eq!(fields.next(), Ok(Some((3, Wire::Four(b"1234")))));
        assert_eq!(fields.next(), Ok(Some((4, Wire::Eight(b"12345678")))));
        assert_eq!(fields.next(), Ok(None));
        for broken in [
            &b"\x08"[..],
            b"\x08\x80",
            b"\x12\x03hi",
            b"\x1d123",
            b"\x0b\x0c",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            assert_eq!(Fields(broken).next(), Err(Unreadable), "{broken:?}");
        }
    }

    #[test]
    fn a_length_that_no_memory_has_is_not_believed() {
        assert_eq!(Fields(b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x").next(), Err(Unreadable));
    }
}
