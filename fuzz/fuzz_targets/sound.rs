//! Files that are sound, to begin with: bytes out of nowhere never get past the first header.

use std::fs;
use std::io::Read;
use std::path::Path;

use sandbox::data::archive::{Packing, export};
use sandbox::data::manifest::{Consistency, Manifest};
use sandbox::storage::VolumeName;
use sandbox::storage::tree::Counter;

/// Writes some into the folder that `SANDBOX_FUZZ_CORPUS` names.
pub fn write_some() {
    let Some(corpus) = std::env::var_os("SANDBOX_FUZZ_CORPUS") else { return };
    let corpus = Path::new(&corpus);
    let ground = tempfile::tempdir().unwrap();
    let volumes = ["data", "other"].map(|name| {
        let folder = ground.path().join(name);
        fs::create_dir(&folder).unwrap();
        fill(&folder);
        (VolumeName::new(name).unwrap(), folder)
    });
    let manifest = Manifest::new("amd64", Consistency::Clean);
    for (name, packing, count, images) in [
        ("one", Packing::Raw, 1, None),
        ("two", Packing::Raw, 2, None),
        ("none", Packing::Raw, 0, None),
        ("images", Packing::Raw, 1, Some(&b"an archive of images"[..])),
        ("packed", Packing::Zstd, 2, None),
    ] {
        let mut images = images;
        let images = images.as_mut().map(|images| images as &mut dyn Read);
        let file = fs::File::create(corpus.join(format!("sound-{name}"))).unwrap();
        export(file, packing, &manifest, &volumes[..count], images, &Counter::default()).unwrap();
    }
}

fn fill(folder: &Path) {
    fs::write(folder.join("plain"), "one").unwrap();
    fs::create_dir_all(folder.join("deep/er")).unwrap();
    fs::write(folder.join("deep/er").join("x".repeat(120)), [9; 600]).unwrap();
    fs::hard_link(folder.join("plain"), folder.join("deep/again")).unwrap();
    std::os::unix::fs::symlink("../plain", folder.join("deep/inside")).unwrap();
    std::os::unix::fs::symlink("/dev/null", folder.join("outside")).unwrap();
    let sparse = fs::File::create(folder.join("sparse")).unwrap();
    sparse.set_len(1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, &[3; 700], 8 << 12).unwrap();
    let tool = folder.join("tool");
    fs::write(&tool, "#!").unwrap();
    fs::set_permissions(tool, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
}
