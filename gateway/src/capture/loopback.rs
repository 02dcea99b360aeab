//! The address `::6` of the loopback interface, from which the proxy connects to its application: of IPv4 the whole of 127.0.0.0/8 is
//! there by itself. Asked for by netlink, so that no image needs `ip` for it.

use std::{
    io::{self, Read as _, Write as _},
    net::Ipv6Addr,
};

use socket2::{Domain, Socket, Type};

use super::plan::TO_APPLICATION;

/// In every network namespace the loopback interface is the first.
const LOOPBACK: u32 = 1;
const AF_NETLINK: i32 = 16;
const AF_INET6: u8 = 10;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// Request and acknowledge.
const ASK: u16 = 1 | 4;
/// Create, and not where it is already.
const CREATE: u16 = 0x400 | 0x200;
const EEXIST: i32 = 17;
const EADDRNOTAVAIL: i32 = 99;

/// Adds the address; it may be there already.
pub(super) fn add() -> io::Result<()> {
    allowing(EEXIST, ask(&message(RTM_NEWADDR, ASK | CREATE, TO_APPLICATION.1)))
}

/// Takes it away; it may be gone already.
pub(super) fn remove() -> io::Result<()> {
    allowing(EADDRNOTAVAIL, ask(&message(RTM_DELADDR, ASK, TO_APPLICATION.1)))
}

fn allowing(code: i32, result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.raw_os_error() == Some(code) { Ok(()) } else { Err(error) })
}

fn message(kind: u16, flags: u16, address: Ipv6Addr) -> Vec<u8> {
    let mut body = vec![AF_INET6, 128, 0, 0];
    body.extend(LOOPBACK.to_ne_bytes());
    for attribute in [IFA_LOCAL, IFA_ADDRESS] {
        body.extend(20_u16.to_ne_bytes());
        body.extend(attribute.to_ne_bytes());
        body.extend(address.octets());
    }
    let length = 16 + u32::try_from(body.len()).expect("two attributes are short");
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence and port: there is one question, and the kernel knows who asks.
    message.extend([1_u32.to_ne_bytes(), [0; 4]].concat());
    message.extend(body);
    message
}

fn ask(message: &[u8]) -> io::Result<()> {
    let socket = Socket::new(Domain::from(AF_NETLINK), Type::RAW, None)?;
    (&socket).write_all(message)?;
    let mut answer = [0; 512];
    let length = (&socket).read(&mut answer)?;
    read(&answer[..length])
}

/// What the kernel said: an error message, whose code is 0 when there is none.
fn read(answer: &[u8]) -> io::Result<()> {
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "an answer of netlink that is none");
    let kind = answer.get(4..6).and_then(|it| it.try_into().ok()).map(u16::from_ne_bytes).ok_or_else(odd)?;
    let code = answer.get(16..20).and_then(|it| it.try_into().ok()).map(i32::from_ne_bytes).ok_or_else(odd)?;
    match (kind, code) {
        (NLMSG_ERROR, 0) => Ok(()),
        (NLMSG_ERROR, code) => Err(io::Error::from_raw_os_error(-code)),
        _ => Err(odd()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_says_how_long_it_is_and_which_address() {
        let message = message(RTM_NEWADDR, ASK | CREATE, TO_APPLICATION.1);
        assert_eq!(message.len(), 64);
        assert_eq!(message[..4], 64_u32.to_ne_bytes());
        assert_eq!(message[48..], Ipv6Addr::from([0, 0, 0, 0, 0, 0, 0, 6]).octets());
    }

    #[test]
    fn the_kernels_answer_is_a_code() {
        let answer = |kind: u16, code: i32| {
            let mut answer = vec![0; 36];
            answer[4..6].copy_from_slice(&kind.to_ne_bytes());
            answer[16..20].copy_from_slice(&code.to_ne_bytes());
            read(&answer)
        };
        assert!(answer(NLMSG_ERROR, 0).is_ok());
        assert_eq!(answer(NLMSG_ERROR, -EEXIST).unwrap_err().raw_os_error(), Some(EEXIST));
        assert!(allowing(EEXIST, answer(NLMSG_ERROR, -EEXIST)).is_ok());
        assert!(answer(RTM_NEWADDR, 0).is_err());
        assert!(read(&[0; 5]).is_err());
    }
}
