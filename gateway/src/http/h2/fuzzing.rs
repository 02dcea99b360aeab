//! What has to hold of HTTP/2 whatever bytes come.

use tls::buffer::Buffer;

use super::{
    frame::{Code, FIRST_WINDOW, Frame, HEAD, LONGEST, Wrong},
    hpack::{Decoder, write_field},
    state::{Room, State},
};
use crate::http::name::Name;

/// Header blocks, one behind the other with a length before each: none breaks the decoder, and what was decoded is decoded
/// again after it was written.
pub fn fields(data: &[u8]) {
    let mut decoder = Decoder::default();
    let mut rest = data;
    while let Some((length, after)) = rest.split_first() {
        let (block, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        let (mut fields, mut again, mut written) = (Vec::new(), Vec::new(), Vec::new());
        if decoder.decode(block, |name, value| fields.push((name.to_ascii_lowercase(), value.to_vec()))).is_err() {
            return;
        }
        for (name, value) in &fields {
            write_field(Name::of(name), name, value, &mut written);
        }
        let read = Decoder::default().decode(&written, |name, value| again.push((name.to_vec(), value.to_vec())));
        assert_eq!((read, again), (Ok(()), fields));
    }
}

/// Frames of a peer, and what is done meanwhile with the streams that they begin: no panic, no window that grows beyond what
/// was said, nothing held beyond a window, and no more sent than a small multiple of what came.
pub fn frames(data: &[u8]) {
    let Some((how, mut rest)) = data.split_first() else { return };
    let server = how & 1 == 0;
    let (mut state, mut out) = (State::new(server), Buffer::default());
    let mut sent = 0;
    if !server {
        for id in [1, 3, 5] {
            state.begin(id);
            state.last = id;
        }
    }
    let mut open: Vec<usize> = if server { Vec::new() } else { vec![0, 1, 2] };
    while let Some(frame) = Frame::read(rest) {
        let Some(payload) = rest.get(HEAD..HEAD + frame.length).filter(|_| frame.length <= LONGEST) else { return };
        match state.take(frame, payload, &mut out) {
            Ok(()) => {}
            Err(Wrong::Stream(id, code)) => state.refuse(id, code, &mut out),
            Err(Wrong::Connection(_)) => return,
        }
        rest = &rest[HEAD + frame.length..];
        open.extend(std::mem::take(&mut state.opened).into_iter().map(|opened| opened.key));
        act(how.wrapping_add(frame.flags), &mut state, &mut open, &mut out);
        sent += out.len();
        out.clear();
        state.flushes += 1;
        assert_eq!(state.live, open.len());
        for key in &open {
            assert!(state.slot(*key).recv.len() <= FIRST_WINDOW as usize);
            assert!(state.slot(*key).recv_left <= i64::from(FIRST_WINDOW));
        }
    }
    assert!(sent <= 64 * data.len() + 4096, "{sent} bytes for {}", data.len());
}

/// Does with the streams what those who serve them may do.
fn act(what: u8, state: &mut State, open: &mut Vec<usize>, out: &mut Buffer) {
    let Some(key) = open.get(usize::from(what) % open.len().max(1)).copied() else { return };
    match what % 5 {
        0 => {
            let count = state.slot(key).recv.len();
            state.took(key, count, out);
        }
        1 if !state.slot(key).local && !state.slot(key).reset => {
            if let Room::Some(room) = state.room(key, 10) {
                state.send(key, &[0; 10][..room], out);
            }
        }
        2 if !state.slot(key).local && !state.slot(key).reset => state.end(key, out),
        3 => {
            state.close(key, Code::CANCEL, out);
            open.retain(|one| *one != key);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::h2::frame::{self, kind};

    fn blocks() -> impl Strategy<Value = Vec<u8>> {
        let block = prop_oneof![
            Just(vec![0x82, 0x87, 0x84, 0x41, 1, b'a']),
            Just(vec![0x88]),
            Just(vec![0x88, 0x5c, 1, b'5']),
            Just(vec![0x40, 1, b'x', 1, b'y']),
            Just(vec![0x20, 0xbe]),
            prop::collection::vec(any::<u8>(), 0..20),
        ];
        prop::collection::vec(block, 1..4).prop_map(|all| all.concat())
    }

    fn any_frames() -> impl Strategy<Value = Vec<u8>> {
        let payload = prop_oneof![
            blocks(),
            prop::collection::vec(any::<u8>(), 0..9),
            Just(vec![0; 4]),
            Just(vec![0, 0, 0, 1]),
            Just(vec![7; 8]),
            Just(vec![0; 16_000]),
        ];
        let kinds = prop_oneof![Just(kind::HEADERS), Just(kind::DATA), Just(kind::CONTINUATION), 0_u8..12];
        let flags = prop_oneof![Just(0_u8), Just(1), Just(4), Just(5), any::<u8>()];
        let streams = prop_oneof![Just(1_u32), Just(3), Just(0), 0_u32..20, any::<u32>()];
        let one = (kinds, flags, streams, payload);
        (any::<u8>(), prop::collection::vec(one, 0..40)).prop_map(|(how, frames)| {
            let mut out = Buffer::default();
            frame::write(kind::SETTINGS, 0, 0, &[], &mut out);
            for (kind, flags, stream, payload) in frames {
                frame::write(kind, flags, stream, &payload, &mut out);
            }
            [&[how], out.as_slice()].concat()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn no_block_breaks_the_decoder(data in prop::collection::vec(any::<u8>(), 0..200)) {
            fields(&data);
        }

        #[test]
        fn no_frames_break_a_connection(data in any_frames()) {
            frames(&data);
        }
    }
}
