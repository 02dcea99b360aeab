//! The Huffman code of HPACK (RFC 7541 appendix B). It is canonical: the lengths of its codes tell the codes.

/// Length of each symbol's code, bits; the last one is EOS.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];
/// The symbol that no string holds.
const EOS: u16 = 256;
/// Longest code, bits.
const LONGEST: usize = 30;

/// The code, arranged for decoding.
struct Code {
    /// Symbols in the order of their codes.
    sorted: [u16; 257],
    /// By length: the first code, how many there are, and where the first one's symbol stands in `sorted`.
    lengths: [(u32, u32, u16); LONGEST + 1],
    /// By the next eight bits: symbol and length of a code that is not longer; length 0 = it is.
    short: [(u8, u8); 256],
}

static CODE: Code = arrange();

const fn arrange() -> Code {
    let mut code = Code { sorted: [0; 257], lengths: [(0, 0, 0); LONGEST + 1], short: [(0, 0); 256] };
    let (mut length, mut next, mut at) = (1, 0_u32, 0_u16);
    while length <= LONGEST {
        code.lengths[length] = (next, 0, at);
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                code.sorted[at as usize] = symbol as u16;
                if length <= 8 {
                    let mut bits = next << (8 - length);
                    while bits < (next + 1) << (8 - length) {
                        code.short[bits as usize] = (symbol as u8, length as u8);
                        bits += 1;
                    }
                }
                at += 1;
                next += 1;
                code.lengths[length].1 += 1;
            }
            symbol += 1;
        }
        next <<= 1;
        length += 1;
    }
    code
}

/// The symbol at the front of left-aligned bits, and the length of its code.
fn symbol(bits: u64) -> Option<(u16, u32)> {
    let (symbol, length) = CODE.short[(bits >> 56) as usize];
    if length > 0 {
        return Some((u16::from(symbol), u32::from(length)));
    }
    (9..=LONGEST).find_map(|length| {
        let (first, count, at) = CODE.lengths[length];
        let index = ((bits >> (64 - length)) as u32).checked_sub(first).filter(|index| *index < count)?;
        Some((CODE.sorted[usize::from(at) + index as usize], length as u32))
    })
}

/// Appends the decoded string. `false`: it is malformed (RFC 7541 section 5.2).
pub(super) fn decode(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    let (mut bits, mut have, mut at) = (0_u64, 0_u32, 0);
    loop {
        while have <= 56 && at < bytes.len() {
            bits |= u64::from(bytes[at]) << (56 - have);
            have += 8;
            at += 1;
        }
        let Some((symbol, length)) = symbol(bits) else { return false };
        if length > have {
            // What is left is padding: the beginning of EOS, shorter than a byte.
            return have < 8 && bits == !(u64::MAX >> have);
        }
        if symbol == EOS {
            return false;
        }
        out.push(symbol as u8);
        bits <<= length;
        have -= length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes, for the tests.
    pub(crate) fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits = String::new();
        for byte in text {
            let length = LENGTHS[usize::from(*byte)] as usize;
            let (first, _, at) = CODE.lengths[length];
            let place = CODE.sorted.iter().position(|one| *one == u16::from(*byte)).unwrap();
            bits.push_str(&format!("{:0length$b}", first + (place as u32 - u32::from(at))));
        }
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        bits.as_bytes().chunks(8).map(|one| u8::from_str_radix(std::str::from_utf8(one).unwrap(), 2).unwrap()).collect()
    }

    #[test]
    fn the_examples_of_the_rfc_decode() {
        // RFC 7541 appendix C.4.
        let mut out = Vec::new();
        assert!(decode(&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff], &mut out));
        assert_eq!(out, b"www.example.com");
        out.clear();
        assert!(decode(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], &mut out));
        assert_eq!(out, b"no-cache");
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        let mut out = Vec::new();
        assert!(decode(&encode(&all), &mut out));
        assert_eq!(out, all);
    }

    #[test]
    fn wrong_padding_and_eos_are_refused() {
        let mut out = Vec::new();
        // `a` is 00011: its padding has to be ones.
        assert!(decode(&[0b0001_1111], &mut out));
        assert!(!decode(&[0b0001_1110], &mut out));
        assert!(!decode(&[0b0001_1111, 0xff], &mut out), "a whole byte of padding");
        assert!(!decode(&[0xff, 0xff, 0xff, 0xff], &mut out), "EOS");
        assert!(decode(&[], &mut out));
    }
}
