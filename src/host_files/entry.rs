//! Headers of the tar archives that we create.

/// Owner of a file, by numeric ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner {
    /// The user id.
    pub uid: u64,
    /// The group id.
    pub gid: u64,
}

impl Owner {
    /// The superuser.
    pub const ROOT: Self = Self { uid: 0, gid: 0 };
}

/// Header of an entry without a modification time, so that archives of the same files are identical.
pub fn header(kind: tar::EntryType, size: u64, mode: u32, owner: Owner) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(owner.uid);
    header.set_gid(owner.gid);
    header.set_mtime(0);
    header
}

/// Header of a file of this machine, with another owner.
pub fn header_of(metadata: &std::fs::Metadata, owner: Owner) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_metadata(metadata);
    header.set_uid(owner.uid);
    header.set_gid(owner.gid);
    if !metadata.is_file() {
        header.set_size(0);
    }
    header
}
