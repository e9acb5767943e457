//! What lies in a process's memory and in files, searched for secrets. Reading another process takes root.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Read at a time; a secret that crosses the border of two reads is seen, because they overlap.
const CHUNK_BYTES: usize = 1 << 20;

/// Something that must not be found, in the shapes that it may lie around in.
#[derive(Clone, Debug)]
pub struct Secret {
    /// What it is, for the test's words.
    pub name: String,
    shapes: Vec<(&'static str, Vec<u8>)>,
}

/// Where a secret was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Find {
    /// The secret's name.
    pub secret: String,
    /// The shape that it has there.
    pub shape: &'static str,
    /// The file, or the mapping of the process.
    pub place: String,
}

impl Secret {
    /// Text or bytes, as they are.
    pub fn bytes(name: &str, bytes: &[u8]) -> Self {
        assert!(bytes.len() >= 8, "too short to tell it from chance");
        Self {
            name: name.to_owned(),
            shapes: vec![("as it is", bytes.to_vec())],
        }
    }

    /// A passphrase: as it is, and as the block that HMAC begins with, from which anyone can tell it.
    pub fn passphrase(name: &str, passphrase: &[u8]) -> Self {
        let mut secret = Self::bytes(name, passphrase);
        for (shape, pad) in [("HMAC's inner block", 0x36), ("HMAC's outer block", 0x5c)] {
            let block = passphrase.iter().map(|byte| byte ^ pad).collect();
            secret.shapes.push((shape, block));
        }
        secret
    }

    /// A number of a curve's size, big-endian: as PKCS#8 has it, as a machine's words have it, and in hexadecimal digits.
    pub fn scalar(name: &str, big_endian: &[u8]) -> Self {
        let mut secret = Self::bytes(name, big_endian);
        let little_endian = big_endian.iter().rev().copied().collect();
        secret.shapes.push(("words", little_endian));
        let hex = |digits: fn(&u8) -> String| big_endian.iter().map(digits).collect::<String>();
        let lower = hex(|byte| format!("{byte:02x}"));
        let upper = hex(|byte| format!("{byte:02X}"));
        secret.shapes.push(("hexadecimal", lower.into_bytes()));
        secret.shapes.push(("hexadecimal", upper.into_bytes()));
        secret
    }

    /// Adds a shape.
    pub fn with_shape(mut self, shape: &'static str, bytes: Vec<u8>) -> Self {
        self.shapes.push((shape, bytes));
        self
    }
}

/// Whether this process may look into another one.
pub fn may_look() -> bool {
    rustix::process::geteuid().is_root()
}

/// Looks through everything that a process has mapped and that can be read.
pub fn of_process(pid: u32, secrets: &[Secret]) -> Vec<Find> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut finds = Vec::new();
    let mut bytes = 0;
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        let place = fields.nth(3).unwrap_or("anonymous");
        // The kernel's own pages cannot be read so.
        if !rights.starts_with('r') || place.starts_with("[v") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|end| u64::from_str_radix(end, 16).unwrap());
        let read = |at: u64, buffer: &mut [u8]| memory.read_at(buffer, at).unwrap_or(0);
        bytes += look(
            from,
            to,
            read,
            &format!("{place} {rights}"),
            secrets,
            &mut finds,
        );
    }
    // A scan that could not read is no scan.
    assert!(
        bytes > 1 << 20,
        "only {bytes} bytes of process {pid} were read"
    );
    finds.sort();
    finds
}

/// Looks through every file below these paths, but for those that `leave_out` names.
pub fn of_files(paths: &[&Path], leave_out: &[PathBuf], secrets: &[Secret]) -> Vec<Find> {
    let mut finds = Vec::new();
    let mut left: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
    while let Some(path) = left.pop() {
        if leave_out.contains(&path) {
            continue;
        }
        // What is gone by now is a database's temporary file.
        let Ok(metadata) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        if metadata.is_dir() {
            left.extend(
                std::fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if metadata.is_file() {
            let file = File::open(&path).unwrap();
            let read = |at: u64, buffer: &mut [u8]| file.read_at(buffer, at).unwrap();
            let place = path.display().to_string();
            look(0, metadata.len(), read, &place, secrets, &mut finds);
        }
    }
    finds.sort();
    finds
}

/// Looks through a text, such as a log.
pub fn of_text(place: &str, text: &str, secrets: &[Secret]) -> Vec<Find> {
    let mut finds = Vec::new();
    note(text.as_bytes(), place, secrets, &mut finds);
    finds
}

fn look(
    from: u64,
    to: u64,
    read: impl Fn(u64, &mut [u8]) -> usize,
    place: &str,
    secrets: &[Secret],
    finds: &mut Vec<Find>,
) -> u64 {
    let shapes = secrets.iter().flat_map(|secret| &secret.shapes);
    let overlap = shapes.map(|(_, bytes)| bytes.len()).max().unwrap_or(1) as u64;
    let mut buffer = vec![0; CHUNK_BYTES];
    let (mut at, mut seen) = (from, 0);
    while at < to {
        let wanted = usize::try_from(to - at)
            .unwrap_or(CHUNK_BYTES)
            .min(CHUNK_BYTES);
        let length = read(at, &mut buffer[..wanted]);
        if length == 0 {
            break;
        }
        note(&buffer[..length], place, secrets, finds);
        seen += length as u64;
        if at + length as u64 >= to {
            break;
        }
        at += (length as u64).saturating_sub(overlap).max(1);
    }
    seen
}

fn note(bytes: &[u8], place: &str, secrets: &[Secret], finds: &mut Vec<Find>) {
    for secret in secrets {
        for (shape, wanted) in &secret.shapes {
            if memchr::memmem::find(bytes, wanted).is_some() {
                let find = Find {
                    secret: secret.name.clone(),
                    shape,
                    place: place.to_owned(),
                };
                if !finds.contains(&find) {
                    finds.push(find);
                }
            }
        }
    }
}
