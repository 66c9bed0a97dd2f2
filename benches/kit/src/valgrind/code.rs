//! Which instructions of a program lock the bus: read from its file, an ELF for x86-64.

use std::fs;

pub(crate) struct Code {
    file: Vec<u8>,
    /// Address, offset in the file, and size of each part that is loaded.
    parts: Vec<[u64; 3]>,
}

impl Code {
    /// Of the program or library at this path.
    pub(crate) fn of(path: &str) -> Self {
        let file = fs::read(path).unwrap_or_default();
        let parts = parts(&file).unwrap_or_default();
        Self { file, parts }
    }

    /// Whether this is such a file.
    pub(crate) fn is_readable(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Of code that is in no file nothing is known: valgrind brings some, which no call executes.
    pub(crate) fn is_locked(&self, address: u64) -> bool {
        self.find_lock(address).unwrap_or(false)
    }

    fn find_lock(&self, address: u64) -> Option<bool> {
        let [start, offset, _] = *self
            .parts
            .iter()
            .find(|[start, _, size]| (*start..start + size).contains(&address))?;
        let code = self.file.get((address - start + offset) as usize..)?;
        // Prefixes that may come before the one that is looked for, or before the opcode.
        let mut code = code.iter().copied().skip_while(|byte| {
            matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf2 | 0xf3 | 0x40..=0x4f)
        });
        match code.next()? {
            0xf0 => Some(true),
            // `xchg` locks when it is with memory.
            0x86 | 0x87 => Some(code.next()? >> 6 != 0b11),
            _ => Some(false),
        }
    }
}

/// `None` of any other file.
fn parts(file: &[u8]) -> Option<Vec<[u64; 3]>> {
    const X86_64: u64 = 62;
    const LOAD: u64 = 1;
    let number = |at: usize, size: usize| {
        let bytes = file.get(at..at + size)?;
        Some(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    };
    if !file.starts_with(b"\x7fELF\x02\x01") || number(18, 2)? != X86_64 {
        return None;
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let mut parts = Vec::new();
    for i in 0..count {
        let header = (table + i * size) as usize;
        if number(header, 4)? == LOAD {
            parts.push([number(header + 16, 8)?, number(header + 8, 8)?, number(header + 32, 8)?]);
        }
    }
    Some(parts)
}
