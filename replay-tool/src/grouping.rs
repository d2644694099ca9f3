//! Numbers summed up by key, for any number of keys.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;

use crate::sorter::{Room, Sorted, Sorter};

/// Sums of `N` numbers by keys of `KEY` bytes. Keys that do not fit into memory are written away.
pub(crate) struct Grouping<const KEY: usize, const N: usize> {
    merge: fn(&mut [i64; N], &[i64; N]),
    groups: HashMap<[u8; KEY], [i64; N]>,
    /// How many groups there is room for.
    most: usize,
    room: Room,
    sorter: Option<Sorter>,
}

impl<const KEY: usize, const N: usize> Grouping<KEY, N> {
    /// Groups whose numbers are put together by `merge`.
    pub(crate) fn new(room: Room, merge: fn(&mut [i64; N], &[i64; N])) -> Self {
        // A half is for the map, which is at times half empty; the other half is for sorting.
        let most = (room.bytes / 4 / (KEY + 8 * N + 1)).max(1);
        Self { merge, groups: HashMap::new(), most, room, sorter: None }
    }

    /// Adds numbers to a group.
    ///
    /// # Errors
    /// The temporary file cannot be written.
    pub(crate) fn add(&mut self, key: [u8; KEY], numbers: [i64; N]) -> io::Result<()> {
        if self.groups.len() >= self.most && !self.groups.contains_key(&key) {
            self.spill()?;
        }
        match self.groups.entry(key) {
            Entry::Occupied(mut group) => (self.merge)(group.get_mut(), &numbers),
            Entry::Vacant(vacant) => {
                vacant.insert(numbers);
            }
        }
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        let sorter = self.sorter.get_or_insert_with(|| Sorter::new(self.room.share(2)));
        for (key, numbers) in self.groups.drain() {
            let bytes = numbers.map(i64::to_le_bytes);
            sorter.push(&key, &[bytes.as_flattened()])?;
        }
        Ok(())
    }

    /// Gives every group once, in the order of the keys.
    ///
    /// # Errors
    /// The temporary file cannot be written or read, or `group` fails.
    pub(crate) fn finish(
        mut self,
        mut group: impl FnMut([u8; KEY], [i64; N]) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.sorter.is_none() {
            let mut groups: Vec<_> = self.groups.into_iter().collect();
            groups.sort_unstable_by_key(|(key, _)| *key);
            return groups.into_iter().try_for_each(|(key, numbers)| group(key, numbers));
        }
        self.spill()?;
        let sorted = self.sorter.take().map(Sorter::finish).transpose()?;
        each_group(&sorted.ok_or_else(|| io::Error::other("nothing was sorted"))?, self.merge, group)
    }
}

fn each_group<const KEY: usize, const N: usize>(
    sorted: &Sorted,
    merge: fn(&mut [i64; N], &[i64; N]),
    mut group: impl FnMut([u8; KEY], [i64; N]) -> io::Result<()>,
) -> io::Result<()> {
    let mut records = sorted.records()?;
    let mut current: Option<([u8; KEY], [i64; N])> = None;
    while let Some((key, value)) = records.next()? {
        let key: [u8; KEY] = key.try_into().map_err(io::Error::other)?;
        let mut numbers = [0; N];
        for (number, bytes) in numbers.iter_mut().zip(value.as_chunks::<8>().0) {
            *number = i64::from_le_bytes(*bytes);
        }
        match &mut current {
            Some((of, sum)) if *of == key => merge(sum, &numbers),
            _ => {
                if let Some((key, sum)) = current.replace((key, numbers)) {
                    group(key, sum)?;
                }
            }
        }
    }
    current.into_iter().try_for_each(|(key, sum)| group(key, sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_the_same_whether_they_fit_into_memory_or_not() {
        for bytes in [2_000, 10_000_000] {
            let room = Room { bytes, folder: std::env::temp_dir() };
            let mut grouping = Grouping::<8, 2>::new(room, |sum, more| {
                sum[0] += more[0];
                sum[1] = sum[1].max(more[1]);
            });
            for n in 0..3_000_u64 {
                grouping.add((n % 500).to_be_bytes(), [1, n as i64]).unwrap();
            }
            let mut found = Vec::new();
            let collect = |key: [u8; 8], sum| {
                found.push((u64::from_be_bytes(key), sum));
                Ok(())
            };
            grouping.finish(collect).unwrap();
            let expected: Vec<_> = (0..500).map(|n| (n, [6, 2_500 + n as i64])).collect();
            assert_eq!(found, expected, "with {bytes} bytes");
        }
    }
}
