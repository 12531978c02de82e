//! Everything kept in the corpus still passes.

use std::fs;
use std::path::Path;

#[test]
fn the_corpus_passes() {
    for target in gantry_fuzz::TARGETS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
        let mut count = 0;
        for entry in fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display())) {
            let path = entry.expect("it can be listed").path();
            (target.run)(&fs::read(path).expect("it can be read"));
            count += 1;
        }
        assert!(count > 0, "{} has no corpus", target.name);
    }
}
