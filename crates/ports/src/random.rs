use std::fs::File;
use std::io::Read;
use std::sync::Mutex;

/// Draws random numbers.
pub trait Random: Send + Sync + 'static {
    /// Fills a buffer. The real side is fit for keys; the simulated one repeats for its seed.
    fn fill(&self, buffer: &mut [u8]);

    /// A random number.
    fn u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A random number below a bound, which must not be 0. The bias is below one in 2^32 for bounds below 2^32.
    fn below(&self, bound: u64) -> u64 {
        self.u64() % bound
    }

    /// A random (version 4) UUID in text.
    fn uuid(&self) -> String {
        let mut b = [0u8; 16];
        self.fill(&mut b);
        b[6] = b[6] & 0x0f | 0x40;
        b[8] = b[8] & 0x3f | 0x80;
        let hex: String = b.iter().map(|b| format!("{b:02x}")).collect();
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }

    /// A suffix for a generated name, in the alphabet upstream uses: no vowels, nothing that looks like another.
    fn name_suffix(&self, length: usize) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        (0..length).map(|_| char::from(ALPHABET[self.below(ALPHABET.len() as u64) as usize])).collect()
    }
}

/// The kernel's randomness.
#[derive(Debug)]
pub struct RealRandom {
    source: Mutex<File>,
}

impl RealRandom {
    /// Opens the kernel's source.
    ///
    /// # Errors
    /// When `/dev/urandom` cannot be opened.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { source: Mutex::new(File::open("/dev/urandom")?) })
    }
}

impl Random for RealRandom {
    fn fill(&self, buffer: &mut [u8]) {
        let mut source = self.source.lock().expect("nothing panics while it holds this lock");
        source.read_exact(buffer).expect("the kernel's source of randomness never ends");
    }
}

/// Numbers that repeat for the same seed (SplitMix64). Not for keys.
#[derive(Debug)]
pub struct SeededRandom {
    state: Mutex<u64>,
}

impl SeededRandom {
    /// Starts the sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: Mutex::new(seed) }
    }
}

impl Random for SeededRandom {
    fn fill(&self, buffer: &mut [u8]) {
        let mut state = self.state.lock().expect("nothing panics while it holds this lock");
        for chunk in buffer.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = *state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            chunk.copy_from_slice(&z.to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contract(random: &dyn Random) {
        assert_ne!(random.u64(), random.u64());
        let id = random.uuid();
        assert_eq!((id.len(), &id[14..15]), (36, "4"), "{id}");
        assert_ne!(id, random.uuid());
        assert_eq!(random.name_suffix(5).len(), 5);
        assert!((0..1000).all(|_| random.below(7) < 7));
    }

    #[test]
    fn both_sides_keep_the_contract() {
        contract(&RealRandom::new().expect("the kernel has randomness"));
        contract(&SeededRandom::new(1));
    }

    #[test]
    fn a_seed_repeats() {
        let draw = |seed| (0..10).map(|_| SeededRandom::new(seed).u64()).collect::<Vec<_>>();
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
