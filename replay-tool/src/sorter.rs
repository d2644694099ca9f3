//! Sorting more than fits into memory: what does not fit is written to a temporary file, sorted
//! piece by piece, and merged when it is read.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Memory for one piece while it is merged.
const READ_BYTES: usize = 128 * 1024;

/// Where memory and temporary files come from.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    /// The most memory that may be used, in bytes.
    pub(crate) bytes: usize,
    /// The folder of temporary files. They have no name there, and are gone with the process.
    pub(crate) folder: PathBuf,
}

impl Room {
    /// The `n`th part of this room.
    pub(crate) fn share(&self, n: usize) -> Self {
        Self { bytes: self.bytes / n, folder: self.folder.clone() }
    }

    /// The rest of it while so many bytes are in use.
    pub(crate) fn without(&self, bytes: usize) -> Self {
        Self { bytes: self.bytes.saturating_sub(bytes), folder: self.folder.clone() }
    }
}

/// Takes records in any order. A record is a key and a value; both are bytes, and keys are compared
/// byte by byte.
pub(crate) struct Sorter {
    room: Room,
    /// Keys and values, one after the other. Reserved once: growing would need twice the memory.
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    pieces: Vec<Piece>,
    file: Option<File>,
    /// How long the file is.
    written: u64,
}

/// A record in memory.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    /// The first bytes of its key: most comparisons need no more.
    prefix: u64,
    start: u32,
    key: u32,
    value: u32,
}

/// A sorted part of the file.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    start: u64,
    end: u64,
}

impl Sorter {
    /// A sorter that keeps to `room`.
    pub(crate) fn new(room: Room) -> Self {
        // An eighth is for the entries; records are large beside them.
        let entries = (room.bytes / 8 / size_of::<Entry>()).max(1);
        let bytes = (room.bytes - room.bytes / 8).min(u32::MAX as usize);
        Self {
            room,
            bytes: Vec::with_capacity(bytes),
            entries: Vec::with_capacity(entries),
            pieces: Vec::new(),
            file: None,
            written: 0,
        }
    }

    /// Takes a record.
    ///
    /// # Errors
    /// The temporary file cannot be written.
    pub(crate) fn push(&mut self, key: &[u8], value: &[&[u8]]) -> io::Result<()> {
        let length: usize = value.iter().map(|part| part.len()).sum();
        let full = self.bytes.len() + key.len() + length > self.bytes.capacity();
        if full || self.entries.len() == self.entries.capacity() {
            self.spill()?;
        }
        let narrow = |n: usize| u32::try_from(n).map_err(|_| io::Error::other("a record is too large"));
        let entry = Entry {
            prefix: prefix(key),
            start: narrow(self.bytes.len())?,
            key: narrow(key.len())?,
            value: narrow(length)?,
        };
        self.bytes.extend_from_slice(key);
        for part in value {
            self.bytes.extend_from_slice(part);
        }
        self.entries.push(entry);
        Ok(())
    }

    /// All records, in order.
    ///
    /// # Errors
    /// The temporary file cannot be written.
    pub(crate) fn finish(mut self) -> io::Result<Sorted> {
        let Some(file) = self.file.take() else {
            self.sort();
            return Ok(Sorted::Memory { bytes: self.bytes, entries: self.entries });
        };
        self.file = Some(file);
        self.spill()?;
        (self.bytes, self.entries) = (Vec::new(), Vec::new());
        // No more pieces are merged at once than have room.
        let most = (self.room.bytes / READ_BYTES).max(2);
        while self.pieces.len() > most {
            let some: Vec<Piece> = self.pieces.drain(..most).collect();
            self.merge_into_one(&some)?;
        }
        match self.file {
            Some(file) => Ok(Sorted::File { file, pieces: self.pieces }),
            None => Err(io::Error::other("the temporary file is gone")),
        }
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.entries
            .sort_unstable_by(|a, b| a.prefix.cmp(&b.prefix).then_with(|| a.key(bytes).cmp(b.key(bytes))));
    }

    /// Writes what is in memory as one piece.
    fn spill(&mut self) -> io::Result<()> {
        if self.entries.is_empty() {
            return Ok(());
        }
        self.sort();
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile_in(&self.room.folder)?),
        };
        let mut out = PieceWriter::new(file, self.written);
        for entry in &self.entries {
            out.write(entry.key(&self.bytes), entry.value(&self.bytes))?;
        }
        let piece = out.finish()?;
        self.written = piece.end;
        self.pieces.push(piece);
        self.bytes.clear();
        self.entries.clear();
        Ok(())
    }

    fn merge_into_one(&mut self, pieces: &[Piece]) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut merged = Merge::of(file, pieces)?;
        let mut out = PieceWriter::new(file, self.written);
        while let Some((key, value)) = merged.next()? {
            out.write(key, value)?;
        }
        let piece = out.finish()?;
        self.written = piece.end;
        self.pieces.push(piece);
        Ok(())
    }
}

impl Entry {
    fn key<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start as usize..(self.start + self.key) as usize]
    }

    fn value<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[(self.start + self.key) as usize..(self.start + self.key + self.value) as usize]
    }
}

fn prefix(key: &[u8]) -> u64 {
    let mut first = [0; 8];
    let length = key.len().min(8);
    first[..length].copy_from_slice(&key[..length]);
    u64::from_be_bytes(first)
}

struct PieceWriter<'a> {
    out: BufWriter<OffsetWriter<'a>>,
    start: u64,
}

/// Writes to a file from a place on, whatever else is read from it.
struct OffsetWriter<'a> {
    file: &'a File,
    offset: u64,
}

impl Write for OffsetWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(bytes, self.offset)?;
        self.offset += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> PieceWriter<'a> {
    fn new(file: &'a File, start: u64) -> Self {
        Self { out: BufWriter::with_capacity(READ_BYTES, OffsetWriter { file, offset: start }), start }
    }

    fn write(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let lengths = (key.len() as u64) << 32 | value.len() as u64;
        self.out.write_all(&lengths.to_le_bytes())?;
        self.out.write_all(key)?;
        self.out.write_all(value)
    }

    fn finish(self) -> io::Result<Piece> {
        let start = self.start;
        let out = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Piece { start, end: out.offset })
    }
}

/// Sorted records; they can be read as often as one likes.
pub(crate) enum Sorted {
    /// All fitted into memory.
    Memory {
        /// Keys and values.
        bytes: Vec<u8>,
        /// Where they are, in order.
        entries: Vec<Entry>,
    },
    /// They are in pieces of a file.
    File {
        /// The temporary file.
        file: File,
        /// Its sorted pieces.
        pieces: Vec<Piece>,
    },
}

impl Sorted {
    /// The memory that it needs, also while it is read.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Memory { bytes, entries } => bytes.capacity() + entries.capacity() * size_of::<Entry>(),
            Self::File { pieces, .. } => pieces.len() * READ_BYTES,
        }
    }

    /// Reads all records from the first on.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub(crate) fn records(&self) -> io::Result<Records<'_>> {
        match self {
            Self::Memory { bytes, entries } => Ok(Records::Memory { bytes, rest: entries.iter() }),
            Self::File { file, pieces } => Ok(Records::File(Merge::of(file, pieces)?)),
        }
    }
}

/// Records one after the other.
pub(crate) enum Records<'a> {
    /// From memory.
    Memory {
        /// Keys and values.
        bytes: &'a [u8],
        /// Those not read yet.
        rest: std::slice::Iter<'a, Entry>,
    },
    /// Merged from pieces.
    File(Merge<'a>),
}

/// The key and the value of a record.
pub(crate) type Record<'a> = (&'a [u8], &'a [u8]);

impl Records<'_> {
    /// The next record; none after the last.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub(crate) fn next(&mut self) -> io::Result<Option<Record<'_>>> {
        match self {
            Self::Memory { bytes, rest } => {
                Ok(rest.next().map(|entry| (entry.key(bytes), entry.value(bytes))))
            }
            Self::File(merge) => merge.next(),
        }
    }
}

/// Pieces read side by side; the one with the smallest key is on top.
pub(crate) struct Merge<'a> {
    pieces: BinaryHeap<PieceReader<'a>>,
    /// The record on top was given out, and is done with at the next call.
    given: bool,
}

impl<'a> Merge<'a> {
    fn of(file: &'a File, pieces: &[Piece]) -> io::Result<Self> {
        let mut heap = BinaryHeap::with_capacity(pieces.len());
        for piece in pieces {
            let mut reader = PieceReader::new(file, *piece);
            if reader.advance()? {
                heap.push(reader);
            }
        }
        Ok(Self { pieces: heap, given: false })
    }

    fn next(&mut self) -> io::Result<Option<Record<'_>>> {
        if self.given
            && let Some(mut top) = self.pieces.peek_mut()
            && !top.advance()?
        {
            PeekMut::pop(top);
        }
        self.given = true;
        Ok(self.pieces.peek().map(|reader| (reader.key(), reader.value())))
    }
}

struct PieceReader<'a> {
    file: &'a File,
    /// Bytes that were not read from the file yet.
    rest: Piece,
    buffer: Vec<u8>,
    /// The current record in the buffer, and its parts.
    at: usize,
    key: usize,
    value: usize,
    /// The first bytes of its key: most comparisons need no more.
    prefix: u64,
}

impl<'a> PieceReader<'a> {
    fn new(file: &'a File, piece: Piece) -> Self {
        Self { file, rest: piece, buffer: Vec::new(), at: 0, key: 0, value: 0, prefix: 0 }
    }

    fn key(&self) -> &[u8] {
        &self.buffer[self.at..self.at + self.key]
    }

    fn value(&self) -> &[u8] {
        &self.buffer[self.at + self.key..self.at + self.key + self.value]
    }

    /// Goes to the next record; false after the last.
    fn advance(&mut self) -> io::Result<bool> {
        self.at += self.key + self.value;
        (self.key, self.value) = (0, 0);
        if self.at == self.buffer.len() && self.rest.start == self.rest.end {
            return Ok(false);
        }
        self.need(8)?;
        let lengths: [u8; 8] = self.buffer[self.at..self.at + 8].try_into().map_err(io::Error::other)?;
        let lengths = u64::from_le_bytes(lengths);
        self.at += 8;
        (self.key, self.value) = ((lengths >> 32) as usize, (lengths & 0xffff_ffff) as usize);
        self.need(self.key + self.value)?;
        self.prefix = prefix(self.key());
        Ok(true)
    }

    /// Sees to it that the next `length` bytes are in the buffer.
    fn need(&mut self, length: usize) -> io::Result<()> {
        let there = self.buffer.len() - self.at;
        if there >= length {
            return Ok(());
        }
        self.buffer.copy_within(self.at.., 0);
        self.at = 0;
        let left = usize::try_from(self.rest.end - self.rest.start).map_err(io::Error::other)?;
        let fresh = left.min(READ_BYTES.max(length) - there);
        self.buffer.resize(there + fresh, 0);
        self.file.read_exact_at(&mut self.buffer[there..], self.rest.start)?;
        self.rest.start += fresh as u64;
        Ok(())
    }
}

/// A heap gives its greatest first, so the smallest key is the greatest.
impl Ord for PieceReader<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.prefix.cmp(&self.prefix).then_with(|| other.key().cmp(self.key()))
    }
}

impl PartialOrd for PieceReader<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for PieceReader<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for PieceReader<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    /// A room that holds a few records only makes pieces, and merges them in several rounds.
    #[test]
    fn what_does_not_fit_into_memory_comes_back_in_order_and_whole() {
        for bytes in [600, 4_000, 10_000_000] {
            let mut sorter = Sorter::new(Room { bytes, folder: std::env::temp_dir() });
            let mut expected = Vec::new();
            for n in 0..5_000_u64 {
                // A permutation: 3_001 has no factor in common with 5_000.
                let n = n * 3_001 % 5_000;
                let key = n.to_be_bytes();
                let value = vec![n as u8; (n % 97) as usize];
                sorter.push(&key, &[&value, b"!"]).unwrap();
                expected.push((key.to_vec(), [value.as_slice(), b"!"].concat()));
            }
            expected.sort();
            let sorted = sorter.finish().unwrap();
            assert_eq!(matches!(sorted, Sorted::Memory { .. }), bytes == 10_000_000);
            for _ in 0..2 {
                let mut records = sorted.records().unwrap();
                let mut found = Vec::new();
                while let Some((key, value)) = records.next().unwrap() {
                    found.push((key.to_vec(), value.to_vec()));
                }
                assert!(found == expected, "with {bytes} bytes");
            }
        }
    }

    #[test]
    fn a_record_larger_than_the_room_is_kept_whole() {
        let mut sorter = Sorter::new(Room { bytes: 1_000, folder: std::env::temp_dir() });
        let large = vec![7; 300_000];
        for key in [b"b", b"a"] {
            sorter.push(key, &[&large]).unwrap();
        }
        let sorted = sorter.finish().unwrap();
        let mut records = sorted.records().unwrap();
        for key in [b"a", b"b"] {
            assert_eq!(records.next().unwrap().unwrap(), (key.as_slice(), large.as_slice()));
        }
        assert!(records.next().unwrap().is_none());
    }
}
