//! SPDY/3.1 frames, as far as `kubectl port-forward` needs them: the only protocol in which it speaks to a kubelet.
//!
//! Layout and dictionary are those of the draft (draft-mbelshe-httpbis-spdy-00, sections 2.2 and 2.6.10.1). There is no
//! flow control, as in Kubernetes' own implementation.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};

const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const FIN: u8 = 1;
const HEAD: usize = 8;
/// A control frame is no longer than this: headers of a stream are a few words.
const LONGEST_CONTROL: usize = 64 * 1024;
const LONGEST_HEADERS: usize = 256 * 1024;

/// What was sent is not SPDY/3.1 as it is spoken here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Another version.
    #[error("SPDY version {0} is not supported")]
    Version(u16),
    /// A frame that is shorter than its kind, or a control frame that is too long.
    #[error("a SPDY frame of the kind {0} has the wrong length")]
    Length(u16),
    /// Headers that cannot be read.
    #[error("the headers of a SPDY stream cannot be read: {0}")]
    Headers(&'static str),
}

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A new stream, with headers whose names are in lower case.
    Open { stream: u32, headers: Vec<(String, String)> },
    /// A piece of a stream.
    Data { stream: u32, content: Bytes, last: bool },
    /// The stream is given up.
    Reset { stream: u32 },
    /// To be sent back as it is.
    Ping { id: u32 },
    /// The client goes.
    GoAway,
}

/// Frames from pieces of a connection.
pub(crate) struct Decoder {
    rest: BytesMut,
    headers: Decompress,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { rest: BytesMut::new(), headers: Decompress::new(true) }
    }

    /// More of the connection.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.rest.extend_from_slice(piece);
    }

    /// The next whole frame, if there is one. Frames of other kinds are passed over.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, Error> {
        while let Some(head) = self.rest.get(..HEAD) {
            let mut head = head;
            let (first, second) = (head.get_u32(), head.get_u32());
            let [flags, ..] = second.to_be_bytes();
            let length = usize::try_from(second & 0x00ff_ffff).unwrap_or(usize::MAX);
            let is_control = first >> 31 == 1;
            let [high, low, kind_high, kind_low] = first.to_be_bytes();
            let (version, kind) = (u16::from_be_bytes([high & 0x7f, low]), u16::from_be_bytes([kind_high, kind_low]));
            if is_control && version != VERSION {
                return Err(Error::Version(version));
            }
            if is_control && length > LONGEST_CONTROL {
                return Err(Error::Length(kind));
            }
            if self.rest.len() < HEAD + length {
                return Ok(None);
            }
            self.rest.advance(HEAD);
            let content = self.rest.split_to(length).freeze();
            if !is_control {
                return Ok(Some(Frame::Data { stream: first & 0x7fff_ffff, content, last: flags & FIN != 0 }));
            }
            if let Some(frame) = self.control(kind, content)? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    fn control(&mut self, kind: u16, mut content: Bytes) -> Result<Option<Frame>, Error> {
        let number = |content: &mut Bytes| content.try_get_u32().map_err(|_| Error::Length(kind));
        Ok(Some(match kind {
            SYN_STREAM => {
                let stream = number(&mut content)? & 0x7fff_ffff;
                // The stream that it belongs to, its priority and slot mean nothing here.
                if content.len() < 6 {
                    return Err(Error::Length(kind));
                }
                content.advance(6);
                Frame::Open { stream, headers: pairs(self.inflated(&content)?)? }
            }
            RST_STREAM => Frame::Reset { stream: number(&mut content)? & 0x7fff_ffff },
            PING => Frame::Ping { id: number(&mut content)? },
            GOAWAY => Frame::GoAway,
            _ => return Ok(None),
        }))
    }

    /// All header blocks of a connection are one zlib stream with a dictionary.
    fn inflated(&mut self, mut block: &[u8]) -> Result<Bytes, Error> {
        let mut out = Vec::new();
        loop {
            let (seen, made) = (self.headers.total_in(), out.len());
            out.reserve(4096);
            let status = self.headers.decompress_vec(block, &mut out, FlushDecompress::Sync);
            let taken = usize::try_from(self.headers.total_in() - seen).unwrap_or(block.len());
            block = block.get(taken..).unwrap_or_default();
            match status {
                Ok(Status::StreamEnd) => return Err(Error::Headers("their compression came to its end")),
                Ok(Status::Ok | Status::BufError) if block.is_empty() && out.len() < out.capacity() => {
                    return Ok(out.into());
                }
                Ok(_) if out.len() > LONGEST_HEADERS => return Err(Error::Headers("they are too long")),
                Ok(_) if taken == 0 && out.len() == made => return Err(Error::Headers("they do not go on")),
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    let known = self.headers.set_dictionary(&dictionary());
                    known.map_err(|_| Error::Headers("another dictionary is wanted"))?;
                }
                Err(_) => return Err(Error::Headers("their compression is broken")),
            }
        }
    }
}

fn pairs(mut block: Bytes) -> Result<Vec<(String, String)>, Error> {
    const SHORT: Error = Error::Headers("they end too early");
    let text = |block: &mut Bytes| {
        let length = usize::try_from(block.try_get_u32().map_err(|_| SHORT)?).map_err(|_| SHORT)?;
        if block.len() < length {
            return Err(SHORT);
        }
        Ok(String::from_utf8_lossy(&block.split_to(length)).into_owned())
    };
    let count = block.try_get_u32().map_err(|_| SHORT)?;
    (0..count).map(|_| Ok((text(&mut block)?.to_ascii_lowercase(), text(&mut block)?))).collect()
}

/// Agrees to a stream. `first` tells whether it is the first reply of the connection, which begins the compression.
pub(crate) fn reply(stream: u32, first: bool) -> Vec<u8> {
    // No headers: the number 0 in a stored block, for which the other side needs no dictionary, and an empty block, at
    // which it hands on what it has read.
    const NONE: [u8; 14] = [0x00, 0x04, 0x00, 0xfb, 0xff, 0, 0, 0, 0, 0x00, 0x00, 0x00, 0xff, 0xff];
    let mut content = stream.to_be_bytes().to_vec();
    if first {
        content.extend([0x78, 0x01]);
    }
    content.extend(NONE);
    control(SYN_REPLY, &content)
}

/// Sends a ping back.
pub(crate) fn ping(id: u32) -> Vec<u8> {
    control(PING, &id.to_be_bytes())
}

/// A piece of a stream.
pub(crate) fn data(stream: u32, content: &[u8], last: bool) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD + content.len());
    frame.put_u32(stream);
    frame.put_u32(length(content) | if last { u32::from(FIN) << 24 } else { 0 });
    frame.extend_from_slice(content);
    frame
}

fn control(kind: u16, content: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD + content.len());
    frame.put_u16(0x8000 | VERSION);
    frame.put_u16(kind);
    frame.put_u32(length(content));
    frame.extend_from_slice(content);
    frame
}

fn length(content: &[u8]) -> u32 {
    // Pieces are some kilobytes; 24 bits are there for it.
    u32::try_from(content.len()).unwrap_or_default() & 0x00ff_ffff
}

/// What compressed headers may refer to: frequent words of HTTP.
fn dictionary() -> Vec<u8> {
    const COUNTED: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
        accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
        content-length content-location content-md5 content-range content-type date etag expect expires from host if-match \
        if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
        proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
        user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie \
        keep-alive origin";
    const CODES: [u16; 38] = [
        100, 101, 201, 202, 205, 206, 300, 302, 303, 304, 305, 306, 307, 402, 405, 406, 407, 408, 409, 410, 411, 412,
        413, 414, 415, 416, 417, 502, 504, 505, 203, 204, 301, 400, 401, 403, 404, 500,
    ];
    const REASONS: [&str; 8] = [
        " Non-Authoritative Information",
        " No Content",
        " Moved Permanently",
        " Bad Request",
        " Unauthorized",
        " Forbidden",
        " Not Found",
        " Internal Server Error",
    ];
    const REST: &str = "501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 \
        Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
        application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8\
        charset=iso-8859-1,utf-,*,enq=0.";
    let mut words = Vec::new();
    for word in COUNTED.split(' ') {
        let word = word.replace('_', " ");
        words.put_u32(length(word.as_bytes()));
        words.extend_from_slice(word.as_bytes());
    }
    let bare = CODES.len() - REASONS.len();
    for (index, code) in CODES.iter().enumerate() {
        let reason = index.checked_sub(bare).and_then(|index| REASONS.get(index)).copied().unwrap_or_default();
        words.extend_from_slice(format!("{code}{reason}").as_bytes());
    }
    words.extend_from_slice(REST.as_bytes());
    words
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    fn adler(bytes: &[u8]) -> u32 {
        let (mut low, mut high) = (1_u32, 0_u32);
        for byte in bytes {
            low = (low + u32::from(*byte)) % 65_521;
            high = (high + low) % 65_521;
        }
        high << 16 | low
    }

    fn open(compress: &mut Compress, stream: u32, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        block.put_u32(u32::try_from(headers.len()).unwrap());
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.put_u32(length(text.as_bytes()));
            block.extend_from_slice(text.as_bytes());
        }
        let mut content = stream.to_be_bytes().to_vec();
        content.extend([0; 6]);
        let mut packed = Vec::with_capacity(4096);
        compress.compress_vec(&block, &mut packed, FlushCompress::Sync).unwrap();
        content.extend(packed);
        control(SYN_STREAM, &content)
    }

    #[test]
    fn the_dictionary_is_that_of_the_draft() {
        assert_eq!((dictionary().len(), adler(&dictionary())), (1423, 0xe3c6_a7c2));
    }

    #[test]
    fn frames_come_in_any_pieces() {
        let mut compress = Compress::new(Compression::default(), true);
        compress.set_dictionary(&dictionary()).unwrap();
        let mut sent = open(&mut compress, 1, &[("Streamtype", "error"), ("Port", "9042")]);
        sent.extend(open(&mut compress, 3, &[("Streamtype", "data"), ("Port", "9042")]));
        sent.extend(data(3, b"hello", false));
        sent.extend(ping(7));
        sent.extend(data(3, b"", true));
        sent.extend(control(4, &[0; 8]));
        sent.extend(control(GOAWAY, &[0; 8]));
        for size in [1, 5, 7, sent.len()] {
            let (mut decoder, mut frames) = (Decoder::new(), Vec::new());
            for piece in sent.chunks(size) {
                decoder.push(piece);
                while let Some(frame) = decoder.next().unwrap() {
                    frames.push(frame);
                }
            }
            let headers =
                |kind: &str| vec![("streamtype".to_owned(), kind.to_owned()), ("port".to_owned(), "9042".to_owned())];
            let expected = [
                Frame::Open { stream: 1, headers: headers("error") },
                Frame::Open { stream: 3, headers: headers("data") },
                Frame::Data { stream: 3, content: Bytes::from_static(b"hello"), last: false },
                Frame::Ping { id: 7 },
                Frame::Data { stream: 3, content: Bytes::new(), last: true },
                Frame::GoAway,
            ];
            assert_eq!(frames, expected);
        }
    }

    #[test]
    fn what_is_no_spdy_is_refused() {
        let refused = |bytes: &[u8]| {
            let mut decoder = Decoder::new();
            decoder.push(bytes);
            decoder.next().unwrap_err().to_string()
        };
        assert_eq!(refused(b"\x80\x02\x00\x01\x00\x00\x00\x00"), "SPDY version 2 is not supported");
        assert_eq!(refused(&control(SYN_STREAM, &[0; 3])), "a SPDY frame of the kind 1 has the wrong length");
        assert!(refused(&control(SYN_STREAM, &[0xff; 40])).contains("compression is broken"));
        assert!(refused(&[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]).contains("wrong length"));
    }
}
