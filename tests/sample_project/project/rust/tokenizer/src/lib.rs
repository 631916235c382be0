//! A byte-fallback tokenizer: known pieces get an id of their own, everything else is spelled in bytes.
//!
//! Ids 0 to 255 are the bytes; pieces follow from `FIRST_WORD_ID`. At each position the longest piece wins, so encoding
//! is deterministic and decoding gives the very bytes back, whatever they are.

/// The id of the first piece; every smaller id is a byte.
pub const FIRST_WORD_ID: u32 = 256;

const PIECES: [&str; 16] = [
    " the", "the", " model", "model", " is", " a", "ing", "tion", " compile", " token", " to", " and", "ed", " of",
    "er", "\n\n",
];

/// The ids of `text`.
pub fn encode(text: &[u8]) -> Vec<u32> {
    let mut ids = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.first() {
        let longest = PIECES
            .iter()
            .enumerate()
            .filter(|(_, piece)| rest.starts_with(piece.as_bytes()))
            .max_by_key(|(_, piece)| piece.len());
        let used = match longest {
            Some((index, piece)) => {
                ids.push(FIRST_WORD_ID + index as u32);
                piece.len()
            }
            None => {
                ids.push(u32::from(*first));
                1
            }
        };
        rest = &rest[used..];
    }
    ids
}

/// The bytes of `ids`; an unknown id stands for nothing.
pub fn decode(ids: &[u32]) -> Vec<u8> {
    let mut text = Vec::with_capacity(ids.len() * 2);
    for id in ids {
        match id.checked_sub(FIRST_WORD_ID) {
            None => text.push(*id as u8),
            Some(index) => {
                if let Some(piece) = PIECES.get(index as usize) {
                    text.extend_from_slice(piece.as_bytes());
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{decode, encode, FIRST_WORD_ID};

    #[test]
    fn the_longest_piece_wins() {
        assert_eq!(encode(b" token"), vec![FIRST_WORD_ID + 9]);
    }

    #[test]
    fn every_byte_survives_the_round_trip() {
        let text: Vec<u8> = (0..=255).chain(b" the model and the token".iter().copied()).collect();
        assert_eq!(decode(&encode(&text)), text);
    }

    #[test]
    fn unknown_ids_decode_to_nothing() {
        assert!(decode(&[FIRST_WORD_ID + 1000]).is_empty());
    }
}
