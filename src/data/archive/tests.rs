//! An export is read back unchanged; invalid files are refused with the name of the entry.

use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, SystemTime};

use super::block::{Kind, Member, TarWriter};
use super::*;
use crate::data::manifest::{Consistency, FORMAT, KeptSecret};
use crate::storage::tree::Counter;

fn name(name: &str) -> VolumeName {
    VolumeName::new(name).unwrap()
}

fn manifest() -> Manifest {
    let mut manifest = Manifest::new("amd64", Consistency::Clean);
    manifest.secrets.insert("db".to_owned(), KeptSecret::new("s3cret"));
    manifest
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn fill(folder: &Path) {
    fs::write(folder.join("plain"), b"one").unwrap();
    fs::write(folder.join("empty"), b"").unwrap();
    fs::create_dir_all(folder.join("deep/er")).unwrap();
    fs::write(folder.join("deep/er").join("x".repeat(200)), vec![9u8; 70_000]).unwrap();
    fs::write(folder.join("deep/tool"), b"#!").unwrap();
    fs::set_permissions(folder.join("deep/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(folder.join("plain"), folder.join("deep/again")).unwrap();
    std::os::unix::fs::symlink("../plain", folder.join("deep/inside")).unwrap();
    std::os::unix::fs::symlink("/dev/stdout", folder.join("outside")).unwrap();
    fs::write(folder.join("naïve\nname"), b"n").unwrap();
    let sparse = fs::File::create(folder.join("sparse")).unwrap();
    sparse.set_len(32 << 20).unwrap();
    for at in [0, 8 << 20, (32 << 20) - 4096] {
        std::os::unix::fs::FileExt::write_at(&sparse, &[3; 4096], at).unwrap();
    }
    fs::File::create(folder.join("hole")).unwrap().set_len(1 << 20).unwrap();
    xattr::set(folder.join("plain"), "user.note", b"a\0b").unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.join("fifo"), rustix::fs::Mode::RUSR).unwrap();
    drop(std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap());
    if is_root() {
        std::os::unix::fs::chown(folder.join("plain"), Some(999), Some(3_000_000)).unwrap();
        std::os::unix::fs::lchown(folder.join("outside"), Some(5), Some(6)).unwrap();
    }
    let times =
        fs::FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789));
    fs::File::open(folder.join("deep")).unwrap().set_times(times).unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o1777)).unwrap();
}

/// Everything that must survive a round trip, entry by entry.
fn picture(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut left = vec![PathBuf::new()];
    while let Some(inside) = left.pop() {
        let path = folder.join(&inside);
        let meta = fs::symlink_metadata(&path).unwrap();
        let mut line = format!(
            "{} {:o} {}:{} {}.{:09} {}",
            inside.display(),
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.nlink()
        );
        if meta.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|e| inside.join(e.unwrap().file_name())));
        } else if meta.is_file() {
            let hash = <sha2::Sha256 as sha2::Digest>::digest(fs::read(&path).unwrap());
            let holes = meta.blocks() * 512 < meta.size();
            write!(line, " {} {} {holes}", meta.size(), hex::encode(hash)).unwrap();
        } else if meta.is_symlink() {
            write!(line, " -> {}", fs::read_link(&path).unwrap().display()).unwrap();
        }
        if !meta.is_symlink() {
            for key in xattr::list(&path).unwrap() {
                write!(line, " {key:?}={:?}", xattr::get(&path, &key).unwrap()).unwrap();
            }
        }
        if !inside.ends_with("socket") {
            lines.push(line);
        }
    }
    lines.sort();
    lines
}

fn write(packing: Packing, volumes: &[VolumeSource], images: Option<&[u8]>) -> (Vec<u8>, Exported) {
    let mut out = Vec::new();
    let mut images = images;
    let images = images.as_mut().map(|images| images as &mut dyn std::io::Read);
    let exported = export(&mut out, packing, &manifest(), volumes, images, &Counter::default()).unwrap();
    (out, exported)
}

fn read(file: &[u8], limits: Limits) -> Result<(tempfile::TempDir, Imported, Head), ArchiveError> {
    let import = Import::open(file, limits)?;
    let head = import.head().clone();
    let ground = tempfile::tempdir().unwrap();
    let mut places = BTreeMap::new();
    for volume in head.volumes.keys() {
        let place = ground.path().join(volume.as_str());
        fs::create_dir(&place).unwrap();
        places.insert(volume.clone(), place);
    }
    let imported = import.unpack(&places, None, &Counter::default())?;
    Ok((ground, imported, head))
}

#[test]
fn what_is_exported_is_imported_the_same() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(one.path());
    fs::write(two.path().join("x"), b"y").unwrap();
    let volumes = [(name("data"), one.path().to_owned()), (name("other"), two.path().to_owned())];
    for packing in [Packing::Raw, Packing::Zstd] {
        let (file, exported) = write(packing, &volumes, None);
        let (ground, imported, head) = read(&file, Limits::default()).unwrap();
        assert_eq!((exported.entries, exported.bytes), (imported.entries, imported.bytes));
        assert_eq!((exported.sockets, exported.devices), (1, 0));
        assert_eq!(head.manifest.secrets["db"].expose(), "s3cret");
        assert_eq!(head.volumes[&name("data")].leaving, BTreeSet::from(["outside".to_owned()]));
        assert_eq!(head.volumes[&name("data")].privileged, BTreeSet::from(["deep/tool".to_owned()]));
        assert_eq!(picture(one.path()), picture(&ground.path().join("data")));
        assert_eq!(fs::read(ground.path().join("other/x")).unwrap(), b"y");
    }
}

#[test]
fn gnu_tar_reads_what_is_exported() {
    let one = tempfile::tempdir().unwrap();
    fill(one.path());
    let (file, _) = write(Packing::Raw, &[(name("data"), one.path().to_owned())], None);
    let ground = tempfile::tempdir().unwrap();
    let mut tar = std::process::Command::new("tar")
        .args(["-x", "--xattrs", "--numeric-owner", "-p", "-C"])
        .arg(ground.path())
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    tar.stdin.take().unwrap().write_all(&file).unwrap();
    assert!(tar.wait().unwrap().success());
    if is_root() {
        assert_eq!(picture(one.path()), picture(&ground.path().join("volumes/data")));
    }
}

#[test]
fn images_come_along_in_pieces() {
    let one = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..20_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
    let (file, _) = write(Packing::Zstd, &[(name("data"), one.path().to_owned())], Some(&bytes));
    let import = Import::open(&*file, Limits::default()).unwrap();
    assert!(import.head().images);
    let place = tempfile::tempdir().unwrap();
    let mut images = Vec::new();
    let places = BTreeMap::from([(name("data"), place.path().to_owned())]);
    import.unpack(&places, Some(&mut images), &Counter::default()).unwrap();
    assert!(images == bytes);
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let one = tempfile::tempdir().unwrap();
    fs::write(one.path().join("a"), vec![1u8; 2000]).unwrap();
    fs::write(one.path().join("b"), b"text").unwrap();
    for packing in [Packing::Raw, Packing::Zstd] {
        let (file, _) = write(packing, &[(name("data"), one.path().to_owned())], Some(b"images"));
        let good = picture(one.path());
        let step = if packing == Packing::Raw { 37 } else { 1 };
        for at in (0..file.len()).step_by(step) {
            let mut bad = file.clone();
            bad[at] ^= 1 << (at % 8);
            if let Ok((ground, _, head)) = read(&bad, Limits::default()) {
                // Some bits have no effect: unused bits of a zstd frame's header, and white space in the checksums.
                assert_eq!(good, picture(&ground.path().join("data")), "bit {at} changed the data");
                assert_eq!(head, Import::open(&*file, Limits::default()).unwrap().head().clone());
            }
        }
        for length in (0..file.len()).step_by(97).chain([file.len() - 1]) {
            assert!(read(&file[..length], Limits::default()).is_err(), "cut at {length}");
        }
    }
}

/// A handmade file: a head with generous limits, these members, and valid checksums unless a test sets others.
struct Forged {
    announced: Announced,
    members: Vec<(Member, Vec<u8>)>,
}

impl Forged {
    fn new() -> Self {
        let announced = Announced { entries: 0, bytes: 0, ..Announced::default() };
        Self { announced, members: Vec::new() }.with(folder("volumes/data/"), b"")
    }

    fn with(mut self, mut member: Member, data: &[u8]) -> Self {
        member.size = data.len() as u64;
        self.announced.entries += 1;
        if member.kind == Kind::File {
            self.announced.bytes += member.size;
        }
        self.members.push((member, data.to_vec()));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut manifest = manifest();
        manifest.volumes = vec![name("data")];
        let volumes = BTreeMap::from([(name("data"), self.announced.clone())]);
        let head = Head { format: FORMAT, manifest, volumes, images: false };
        let mut tar = TarWriter::new(Vec::new());
        let text = serde_json::to_vec(&head).unwrap();
        tar.document(MANIFEST, &text).unwrap();
        tar.begin();
        for (member, data) in &self.members {
            tar.member(member).unwrap();
            tar.data(data).unwrap();
            tar.pad().unwrap();
        }
        let volumes = BTreeMap::from([(name("data"), tar.end())]);
        let sums = Checksums { manifest: checksum_of(&text), volumes, images: None };
        tar.document(CHECKSUMS, &serde_json::to_vec(&sums).unwrap()).unwrap();
        tar.finish().unwrap()
    }

    fn refusal(&self) -> String {
        read(&self.bytes(), Limits::default()).map(|_| ()).expect_err("it was let in").to_string()
    }
}

fn entry(path: &str, kind: Kind) -> Member {
    Member { kind, ..Member::document(path.as_bytes(), 0) }
}

fn folder(path: &str) -> Member {
    Member { mode: 0o755, ..entry(path, Kind::Folder) }
}

fn file(path: &str) -> Member {
    entry(path, Kind::File)
}

fn link(path: &str, kind: Kind, to: &str) -> Member {
    Member { link: to.as_bytes().to_vec(), ..entry(path, kind) }
}

#[test]
fn a_forged_file_without_malice_is_let_in() {
    let bytes = Forged::new().with(file("volumes/data/a"), b"x").bytes();
    let (ground, ..) = read(&bytes, Limits::default()).unwrap();
    assert_eq!(fs::read(ground.path().join("data/a")).unwrap(), b"x");
}

#[test]
fn a_path_that_leads_out_is_refused_by_name() {
    for path in ["volumes/data/../../x", "volumes/data/..", "volumes/data//etc", "volumes/data/./x"] {
        let refusal = Forged::new().with(file(path), b"x").refusal();
        assert!(refusal.contains(path), "{refusal}");
    }
    for path in ["/etc/passwd", "etc/passwd", "volumes/other/x", "../x"] {
        let refusal = Forged::new().with(file(path), b"x").refusal();
        assert!(refusal.contains(path), "{refusal}");
    }
}

#[test]
fn a_link_that_leads_out_is_refused_by_name() {
    for (kind, to) in [
        (Kind::HardLink, "volumes/data/../../../etc/passwd"),
        (Kind::HardLink, "/etc/passwd"),
        (Kind::HardLink, "volumes/data/missing"),
        (Kind::HardLink, "volumes/data/"),
        (Kind::Symlink, "/etc"),
        (Kind::Symlink, "sub/../../x"),
        (Kind::Symlink, ""),
    ] {
        let refusal = Forged::new().with(link("volumes/data/l", kind, to), b"").refusal();
        assert!(refusal.contains("volumes/data/l"), "{to}: {refusal}");
    }
}

#[test]
fn nothing_is_written_through_a_link() {
    let refusal = Forged::new()
        .with(folder("volumes/data/d"), b"")
        .with(link("volumes/data/l", Kind::Symlink, "d"), b"")
        .with(file("volumes/data/l/x"), b"x")
        .refusal();
    assert!(refusal.contains("volumes/data/l/x"), "{refusal}");
    let through = Forged::new()
        .with(folder("volumes/data/d"), b"")
        .with(file("volumes/data/d/x"), b"x")
        .with(link("volumes/data/l", Kind::Symlink, "d"), b"")
        .with(link("volumes/data/h", Kind::HardLink, "volumes/data/l/x"), b"")
        .refusal();
    assert!(through.contains("volumes/data/h"), "{through}");
    let twice = Forged::new()
        .with(link("volumes/data/l", Kind::Symlink, "x"), b"")
        .with(file("volumes/data/l"), b"x")
        .refusal();
    assert!(twice.contains("volumes/data/l") && twice.contains("twice"), "{twice}");
}

#[test]
fn devices_and_unknown_kinds_are_refused() {
    for letter in [b'3', b'4', b'7', b'g', b'L', b'K', b'S', b'V'] {
        let mut bytes = Forged::new().with(file("volumes/data/dev"), b"").bytes();
        let at = bytes.windows(16).position(|w| w == b"volumes/data/dev").unwrap();
        bytes[at + 156] = letter;
        bytes[at + 148..at + 156].copy_from_slice(b"        ");
        let sum: u32 = bytes[at..at + 512].iter().map(|b| u32::from(*b)).sum();
        bytes[at + 148..at + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let refusal = read(&bytes, Limits::default()).err().unwrap().to_string();
        assert!(refusal.contains("volumes/data/dev"), "{refusal}");
    }
}

#[test]
fn rights_that_were_not_announced_are_refused() {
    let setuid = Forged::new().with(Member { mode: 0o4755, ..file("volumes/data/su") }, b"");
    assert!(setuid.refusal().contains("volumes/data/su"));
    let mut announced = setuid;
    announced.announced.privileged.insert("su".to_owned());
    assert!(read(&announced.bytes(), Limits::default()).is_ok());
    for key in [c"security.capability", c"trusted.overlay.opaque", c"security.selinux"] {
        let xattrs = vec![(key.to_owned(), b"x".to_vec())];
        let refusal = Forged::new().with(Member { xattrs, ..file("volumes/data/x") }, b"").refusal();
        assert!(refusal.contains("volumes/data/x"), "{refusal}");
    }
}

#[test]
fn an_entry_twice_or_out_of_order_is_refused() {
    let twice = Forged::new().with(file("volumes/data/a"), b"x").with(file("volumes/data/a"), b"y").refusal();
    assert!(twice.contains("volumes/data/a") && twice.contains("twice"), "{twice}");
    let root = Forged::new().with(folder("volumes/data/"), b"").refusal();
    assert!(root.contains("twice"), "{root}");
    let orphan = Forged::new().with(file("volumes/data/d/a"), b"x").refusal();
    assert!(orphan.contains("volumes/data/d/a"), "{orphan}");
    let again = Forged::new()
        .with(folder("volumes/data/d"), b"")
        .with(folder("volumes/data/e"), b"")
        .with(file("volumes/data/d/a"), b"x")
        .refusal();
    assert!(again.contains("volumes/data/d/a"), "{again}");
}

#[test]
fn a_manifest_that_lies_is_found_out() {
    let change = |change: fn(&mut Announced)| {
        let mut forged = Forged::new().with(file("volumes/data/a"), b"xy");
        change(&mut forged.announced);
        forged.refusal()
    };
    assert!(change(|a| a.entries -= 1).contains("volumes/data/a"));
    assert!(change(|a| a.bytes -= 1).contains("volumes/data/a"));
    assert!(change(|a| a.entries += 1).contains("announced"));
    assert!(change(|a| a.bytes += 1).contains("announced"));
}

#[test]
fn a_map_of_holes_that_lies_is_refused() {
    let sparse = |length: u64, map: &str| {
        let mut data = map.as_bytes().to_vec();
        data.resize(512, 0);
        data.extend_from_slice(b"xxxx");
        let member = Member { sparse: Some(length), ..file("volumes/data/s") };
        Forged::new().with(member, &data).refusal()
    };
    for (length, map) in [
        (4, "1\n1\n4\n"),
        (100, "2\n0\n2\n1\n2\n"),
        (100, "1\n0\n5\n"),
        (100, "99999999999999999999\n"),
        (100, "1\n18446744073709551615\n4\n"),
        (100, "x"),
        (100, "4000000\n"),
    ] {
        assert!(sparse(length, map).contains("volumes/data/s"), "{map:?}");
    }
}

#[test]
fn bombs_are_refused_before_anything_is_written() {
    let small = Limits { bytes: 1000, entries: 2, images: 10, ..Limits::default() };
    let large = Forged::new().with(file("volumes/data/a"), &[0; 1001]).bytes();
    assert!(matches!(read(&large, small), Err(ArchiveError::TooMuch { .. })));
    let many = Forged::new().with(file("volumes/data/a"), b"").with(file("volumes/data/b"), b"").bytes();
    assert!(matches!(read(&many, small), Err(ArchiveError::TooMuch { .. })));
    let zeros = Forged::new().with(file("volumes/data/a"), &vec![0; 80 << 20]).bytes();
    let packed = zstd::encode_all(&*zeros, 3).unwrap();
    let bites = Limits { free: 64 << 20, ..Limits::default() };
    assert!(matches!(read(&packed, bites), Err(ArchiveError::TooMuch { .. })));
    assert!(read(&packed, Limits::default()).is_ok(), "{}", zeros.len() / packed.len());
    let mut deep = Forged::new();
    let mut path = "volumes/data".to_owned();
    for _ in 0..2100 {
        path += "/d";
        deep = deep.with(folder(&path), b"");
    }
    assert!(deep.refusal().contains("too"));
    let long = Forged::new().with(file(&format!("volumes/data/{}", "x".repeat(256))), b"").refusal();
    assert!(long.contains("too long"), "{long}");
}

#[test]
fn a_manifest_is_a_spec_and_digests_and_no_more() {
    let mut forged = Forged::new();
    forged.announced.leaving = (0..100_000).map(|n| format!("{n:0>60}")).collect();
    let refusal = forged.refusal();
    assert!(refusal.contains("manifest.json"), "{refusal}");
    // An export fails if an import could not read its result.
    let one = tempfile::tempdir().unwrap();
    let mut manifest = manifest();
    manifest.note = Some("x".repeat(5 << 20));
    let volumes = [(name("data"), one.path().to_owned())];
    let written = export(Vec::new(), Packing::Raw, &manifest, &volumes, None, &Counter::default());
    assert!(matches!(written, Err(ArchiveError::Unannounced { .. })));
}

#[test]
fn volumes_and_images_share_the_room_and_leave_a_reserve() {
    let limits = Limits::within(100 << 30, 10 << 30);
    assert_eq!((limits.bytes, limits.images), (6 << 30, 6 << 30));
    assert_eq!(limits.beside(5 << 30).images, 1 << 30);
    assert_eq!(Limits::within(4 << 40, 10 << 30).bytes, 6 << 30, "a large disk does not have to be as empty");
    assert_eq!(Limits::within(100 << 30, 1 << 30).bytes, 0);
    let one = tempfile::tempdir().unwrap();
    fs::write(one.path().join("a"), [1; 600]).unwrap();
    let (file, _) = write(Packing::Raw, &[(name("data"), one.path().to_owned())], Some(&[2; 600]));
    let room = |bytes| read(&file, Limits { bytes, images: bytes, ..Limits::default() });
    assert!(matches!(room(1100), Err(ArchiveError::TooMuch { .. })));
    assert!(room(1200).is_ok());
}

#[test]
fn a_hard_link_to_a_link_is_judged_from_where_it_lies() {
    let forged = Forged::new()
        .with(folder("volumes/data/d"), b"")
        .with(link("volumes/data/d/l", Kind::Symlink, "../x"), b"")
        .with(link("volumes/data/h", Kind::HardLink, "volumes/data/d/l"), b"");
    let refusal = forged.refusal();
    assert!(refusal.contains("volumes/data/h") && refusal.contains("out of the volume"), "{refusal}");
    let mut announced = forged;
    announced.announced.leaving.insert("h".to_owned());
    assert!(read(&announced.bytes(), Limits::default()).is_ok());
    // The export of such a pair announces it.
    let one = tempfile::tempdir().unwrap();
    fs::create_dir(one.path().join("d")).unwrap();
    std::os::unix::fs::symlink("../x", one.path().join("d/l")).unwrap();
    fs::hard_link(one.path().join("d/l"), one.path().join("h")).unwrap();
    let (file, _) = write(Packing::Raw, &[(name("data"), one.path().to_owned())], None);
    let (ground, ..) = read(&file, Limits::default()).unwrap();
    assert_eq!(picture(one.path()), picture(&ground.path().join("data")));
}

#[test]
fn what_is_no_snapshot_file_is_told_so() {
    for bytes in [&b""[..], b"PK\x03\x04", b"manifest", &[0; 4096]] {
        assert!(read(bytes, Limits::default()).is_err());
    }
    let mut tar = TarWriter::new(Vec::new());
    tar.document(MANIFEST, br#"{"format": 99}"#).unwrap();
    let newer = tar.finish().unwrap();
    assert!(matches!(read(&newer, Limits::default()), Err(ArchiveError::Newer { format: 99 })));
}

#[test]
fn links_are_known_to_leave_or_stay() {
    for (path, target, out) in [
        ("a", "b", false),
        ("a", "../b", true),
        ("d/a", "../b", false),
        ("d/a", "../../b", true),
        ("d/a", "x/../../../b", true),
        ("d/e/a", "s/../b", true),
        ("d/e/a", "../../b", false),
        ("d/e/a", "../s/../b", true),
        ("d/a", "./x//y", false),
        ("d/a", "/d/b", true),
    ] {
        assert_eq!(leaves(Path::new(path), target.as_bytes()), out, "{path} -> {target}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]

    /// On any mutation of a file the reader terminates, and it writes only below the volume's folder.
    #[test]
    fn no_mutation_breaks_the_reader(changes in proptest::collection::vec((0usize..12_000, 0u8..=255), 1..12), cut in 0usize..12_000) {
        let forged = Forged::new()
            .with(folder("volumes/data/d"), b"")
            .with(file("volumes/data/d/a"), b"x")
            .with(link("volumes/data/d/h", Kind::HardLink, "volumes/data/d/a"), b"")
            .with(link("volumes/data/l", Kind::Symlink, "d/a"), b"");
        let mut bytes = forged.bytes();
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        if cut % 3 == 0 {
            bytes.truncate(cut);
        }
        let _ = read(&bytes, Limits::default());
    }
}
