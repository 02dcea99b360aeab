//! Frames of control (RFC 9113 sections 6.4 to 6.9).

use tls::buffer::Buffer;

use super::{
    frame::{self, Code, Frame, LONGEST, MOST_WINDOW, Wrong, flag, kind, setting},
    state::State,
};
use crate::http::flow::Broken;

const PROTOCOL: Wrong = Wrong::Connection(Code::PROTOCOL);
const FRAME_SIZE: Wrong = Wrong::Connection(Code::FRAME_SIZE);
const FLOW_CONTROL: Wrong = Wrong::Connection(Code::FLOW_CONTROL);

fn number(payload: &[u8]) -> Result<u32, Wrong> {
    payload.try_into().map(u32::from_be_bytes).map_err(|_| FRAME_SIZE)
}

impl State {
    pub(super) fn take_reset(&mut self, frame: Frame, payload: &[u8]) -> Result<(), Wrong> {
        let code = Code(number(payload)?);
        if self.is_idle(frame.stream) {
            return Err(PROTOCOL);
        }
        if let Some(key) = self.find(frame.stream) {
            let slot = &mut self.slots[key];
            (slot.reset, slot.taken_back) = (true, true);
            let replied = slot.replied;
            slot.fail(Broken::Reset { unseen: code == Code::REFUSED_STREAM && !replied });
            if !replied {
                self.note_reset();
            }
        }
        Ok(())
    }

    pub(super) fn take_settings(&mut self, frame: Frame, payload: &[u8], out: &mut Buffer) -> Result<(), Wrong> {
        if frame.stream != 0 {
            return Err(PROTOCOL);
        }
        let (all, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() || (frame.has(flag::ACK) && !all.is_empty()) {
            return Err(FRAME_SIZE);
        }
        if frame.has(flag::ACK) {
            self.acknowledged = true;
            return Ok(());
        }
        for [a, b, value @ ..] in all {
            self.set(u16::from_be_bytes([*a, *b]), u32::from_be_bytes(*value))?;
        }
        self.heard = true;
        frame::write(kind::SETTINGS, flag::ACK, 0, &[], out);
        Ok(())
    }

    fn set(&mut self, id: u16, value: u32) -> Result<(), Wrong> {
        match id {
            setting::TABLE => self.shrunk |= value < std::mem::replace(&mut self.table, value),
            setting::ENABLE_PUSH if value > u32::from(self.server) => return Err(PROTOCOL),
            setting::MAX_STREAMS => self.allowed = value,
            setting::INITIAL_WINDOW => {
                let window = i64::from(value);
                if window > MOST_WINDOW {
                    return Err(FLOW_CONTROL);
                }
                let more = window - std::mem::replace(&mut self.first_window, window);
                for slot in &mut self.slots {
                    slot.send_window += more;
                    if slot.send_window > MOST_WINDOW {
                        return Err(FLOW_CONTROL);
                    }
                }
                self.wake_starved();
            }
            setting::MAX_FRAME if !(LONGEST..1 << 24).contains(&(value as usize)) => return Err(PROTOCOL),
            setting::EXTENDED_CONNECT if value > 1 => return Err(PROTOCOL),
            setting::EXTENDED_CONNECT => self.extended_connect = value == 1,
            _ => {}
        }
        Ok(())
    }

    pub(super) fn take_ping(&mut self, frame: Frame, payload: &[u8], out: &mut Buffer) -> Result<(), Wrong> {
        if frame.stream != 0 {
            return Err(PROTOCOL);
        }
        if payload.len() != 8 {
            return Err(FRAME_SIZE);
        }
        if frame.has(flag::ACK) {
            self.pong |= payload == frame::PING;
        } else {
            frame::write(kind::PING, flag::ACK, 0, payload, out);
        }
        Ok(())
    }

    pub(super) fn take_go_away(&mut self, frame: Frame, payload: &[u8]) -> Result<(), Wrong> {
        if frame.stream != 0 {
            return Err(PROTOCOL);
        }
        let (last, _) = payload.split_at_checked(4).filter(|_| payload.len() >= 8).ok_or(FRAME_SIZE)?;
        let last = number(last)? & !(1 << 31);
        if self.server {
            return Ok(());
        }
        if self.beyond.is_some_and(|before| last > before) {
            return Err(PROTOCOL);
        }
        self.beyond = Some(last);
        for (slot, id) in self.slots.iter_mut().zip(&self.ids) {
            if *id > last {
                slot.reset = true;
                slot.fail(Broken::Reset { unseen: true });
            }
        }
        Ok(())
    }

    pub(super) fn take_window(&mut self, frame: Frame, payload: &[u8]) -> Result<(), Wrong> {
        let more = i64::from(number(payload)? & !(1 << 31));
        if frame.stream == 0 {
            self.send_window += more;
            return match more {
                0 => Err(PROTOCOL),
                _ if self.send_window > MOST_WINDOW => Err(FLOW_CONTROL),
                _ => {
                    self.wake_starved();
                    Ok(())
                }
            };
        }
        if self.is_idle(frame.stream) {
            return Err(PROTOCOL);
        }
        if more == 0 {
            return Err(Wrong::Stream(frame.stream, Code::PROTOCOL));
        }
        if let Some(key) = self.find(frame.stream) {
            let slot = &mut self.slots[key];
            slot.send_window += more;
            if slot.send_window > MOST_WINDOW {
                return Err(Wrong::Stream(frame.stream, Code::FLOW_CONTROL));
            }
            if std::mem::take(&mut slot.starved) {
                slot.wake();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_became_smaller_is_noted_once_for_the_next_block() {
        let mut state = State::new(true);
        let mut heard = |tables: &[u32]| {
            let mut payload = Vec::new();
            for table in tables {
                payload.extend(setting::TABLE.to_be_bytes());
                payload.extend(table.to_be_bytes());
            }
            let frame = Frame { length: payload.len(), kind: kind::SETTINGS, flags: 0, stream: 0 };
            state.take_settings(frame, &payload, &mut Buffer::default()).unwrap();
            std::mem::take(&mut state.shrunk)
        };

        assert!(!heard(&[]));
        assert!(!heard(&[4096]));
        assert!(heard(&[0]));
        assert!(!heard(&[0]));
        assert!(!heard(&[65_536]));
        assert!(heard(&[100, 65_536]));
    }
}
