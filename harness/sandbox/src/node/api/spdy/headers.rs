//! Header blocks of SPDY/3: names and values, compressed with one zlib stream per direction and connection.
//!
//! A block that was not read leaves the next one unreadable, so every block of a connection goes through its one
//! [`Decompressor`] or [`Compressor`]. Pure: bytes in, headers out.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::dictionary::dictionary;

/// Longest block, unpacked. A small block may unpack to very much.
const MAX_BLOCK: usize = 64 << 10;
/// How much is made room for at a time.
const STEP: usize = 4 << 10;

/// Headers of a stream. Names are lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Headers(pub(super) Vec<(String, String)>);

impl Headers {
    /// The value of the first header of this name, which must be given in lower case.
    pub(in super::super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Why a block is not usable. The connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum HeaderError {
    /// Not compressed as SPDY/3 says.
    #[error("a header block cannot be unpacked: {0}")]
    Unpack(#[from] flate2::DecompressError),
    /// It cannot be compressed.
    #[error("a header block cannot be packed: {0}")]
    Pack(#[from] flate2::CompressError),
    /// The compressed stream has an end, which it must not have.
    #[error("the compression of headers ended with a block")]
    Ended,
    /// It unpacks to more than is taken.
    #[error("a header block of more than {MAX_BLOCK} bytes")]
    TooLong,
    /// Its lengths do not fit.
    #[error("a header block ends within a name or value")]
    Cut,
    /// Its text is none.
    #[error("a header is not UTF-8")]
    Text,
}

/// Packs blocks.
pub(super) struct Compressor(Compress);

impl Compressor {
    pub(super) fn new() -> Result<Self, HeaderError> {
        let mut zlib = Compress::new(Compression::best(), true);
        zlib.set_dictionary(&dictionary())?;
        Ok(Self(zlib))
    }

    /// The block of these headers.
    pub(super) fn pack(&mut self, headers: &Headers) -> Result<Vec<u8>, HeaderError> {
        let plain = write(headers);
        if plain.len() > MAX_BLOCK {
            return Err(HeaderError::TooLong);
        }
        let mut packed = Vec::with_capacity(STEP);
        let begin = self.0.total_in();
        loop {
            let taken = usize::try_from(self.0.total_in() - begin).unwrap_or(plain.len());
            self.0.compress_vec(&plain[taken..], &mut packed, FlushCompress::Sync)?;
            if packed.len() < packed.capacity() {
                // All is in, and all that was flushed has come out.
                return Ok(packed);
            }
            packed.reserve(STEP);
        }
    }
}

/// Unpacks blocks.
pub(super) struct Decompressor {
    zlib: Decompress,
    primed: bool,
}

impl Decompressor {
    pub(super) fn new() -> Self {
        Self { zlib: Decompress::new(true), primed: false }
    }

    /// The headers of a block.
    pub(super) fn unpack(&mut self, block: &[u8]) -> Result<Headers, HeaderError> {
        let mut plain = Vec::with_capacity(STEP);
        let begin = self.zlib.total_in();
        loop {
            let taken = usize::try_from(self.zlib.total_in() - begin).unwrap_or(block.len());
            match self.zlib.decompress_vec(&block[taken..], &mut plain, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => return Err(HeaderError::Ended),
                Ok(_) if plain.len() > MAX_BLOCK => return Err(HeaderError::TooLong),
                Ok(_) if plain.len() < plain.capacity() => return read(&plain),
                Ok(_) => plain.reserve(STEP),
                Err(error) if error.needs_dictionary().is_some() && !self.primed => {
                    self.zlib.set_dictionary(&dictionary())?;
                    self.primed = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn write(headers: &Headers) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut number = |value: usize, text: &str| {
        plain.extend_from_slice(&u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes());
        plain.extend_from_slice(text.as_bytes());
    };
    number(headers.0.len(), "");
    for (name, value) in &headers.0 {
        number(name.len(), name);
        number(value.len(), value);
    }
    plain
}

fn read(mut plain: &[u8]) -> Result<Headers, HeaderError> {
    fn number(plain: &mut &[u8]) -> Result<usize, HeaderError> {
        let (bytes, rest) = plain.split_first_chunk().ok_or(HeaderError::Cut)?;
        *plain = rest;
        Ok(u32::from_be_bytes(*bytes) as usize)
    }
    fn text(plain: &mut &[u8]) -> Result<String, HeaderError> {
        let length = number(plain)?;
        let (bytes, rest) = plain.split_at_checked(length).ok_or(HeaderError::Cut)?;
        *plain = rest;
        String::from_utf8(bytes.to_vec()).map_err(|_| HeaderError::Text)
    }
    let count = number(&mut plain)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = text(&mut plain)?.to_ascii_lowercase();
        headers.push((name, text(&mut plain)?));
    }
    Ok(Headers(headers))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers() -> impl Strategy<Value = Headers> {
        proptest::collection::vec(("[a-z-]{1,20}", ".{0,60}"), 0..12).prop_map(Headers)
    }

    proptest! {
        #[test]
        fn blocks_of_one_connection_come_back(sent in proptest::collection::vec(headers(), 1..6)) {
            let (mut packer, mut unpacker) = (Compressor::new().unwrap(), Decompressor::new());
            for headers in sent {
                let block = packer.pack(&headers).unwrap();
                prop_assert_eq!(unpacker.unpack(&block).unwrap(), headers);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(block in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Decompressor::new().unpack(&block);
            let _ = read(&block);
        }
    }

    #[test]
    fn long_values_come_back_and_too_long_ones_are_refused() {
        let noise: String = (0..20_000_u32).map(|n| char::from(b' ' + (n * n / 7 % 90) as u8)).collect();
        let headers = Headers(vec![("long".into(), noise)]);
        let block = Compressor::new().unwrap().pack(&headers).unwrap();
        assert_eq!(Decompressor::new().unpack(&block).unwrap(), headers);
        let bomb = Headers(vec![("bomb".into(), "x".repeat(MAX_BLOCK + 1))]);
        assert!(matches!(Compressor::new().unwrap().pack(&bomb), Err(HeaderError::TooLong)));
        let mut zlib = Compress::new(Compression::best(), true);
        zlib.set_dictionary(&dictionary()).unwrap();
        let mut block = Vec::with_capacity(MAX_BLOCK);
        zlib.compress_vec(&write(&bomb), &mut block, FlushCompress::Sync).unwrap();
        assert!(block.len() < 1000, "{}", block.len());
        assert!(matches!(Decompressor::new().unpack(&block), Err(HeaderError::TooLong)));
    }

    #[test]
    fn a_cut_block_is_an_error() {
        for plain in [vec![0, 0], vec![0, 0, 0, 1], vec![0, 0, 0, 1, 0, 0, 0, 9, b'x']] {
            assert!(matches!(read(&plain), Err(HeaderError::Cut)), "{plain:?}");
        }
        assert_eq!(read(&[0, 0, 0, 0]).unwrap(), Headers::default());
    }
}
