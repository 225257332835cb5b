//! The program and the libraries of a process: where each lies in memory, how its stack frames are
//! undone, and the names of its functions. For the short-lived reader of stacks: what is mapped here
//! stays mapped to the end of the process. Walks no stack.

#![allow(unsafe_code)]

use super::unwind::CallSite;
use crate::core::stack::{Frame, lines::MOST_FRAMES};
use addr2line::Loader;
use framehop::{
    ExplicitModuleSectionInfo, MayAllocateDuringUnwind, Module, Unwinder, UnwinderNative,
};
use nix::{
    libc,
    sys::mman::{MapFlags, ProtFlags, mmap},
};
use object::{Object, ObjectSection, ObjectSegment, SegmentFlags, elf::PF_X};
use std::{
    cell::OnceCell,
    fs::{self, File, Metadata},
    num::NonZeroUsize,
    ops::Range,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    slice,
};

/// The contents of sections.
type SectionBytes = &'static [u8];
/// What undoes frames.
pub(super) type Frames = UnwinderNative<SectionBytes, MayAllocateDuringUnwind>;

/// The running program, also when its file has been replaced or removed.
const PROGRAM: &str = "/proc/self/exe";
/// The functions that the kernel maps into each process, such as clock_gettime.
const VDSO: &str = "[vdso]";

/// A part of a file that is mapped as code.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct CodeMapping {
    range: Range<u64>,
    offset: u64,
    path: PathBuf,
}

impl CodeMapping {
    /// Reads a line of /proc/PID/maps; `None` if it is not code of a file or of the kernel.
    pub(super) fn of_line(line: &str) -> Option<Self> {
        let mut fields = line.splitn(6, ' ');
        let mut next = || fields.next();
        let (range, access, offset) = (next()?, next()?, next()?);
        let (_device, _inode, path) = (next()?, next()?, next()?.trim_start());
        let (start, end) = range.split_once('-')?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let is_code = access.contains('x') && (path.starts_with('/') || path == VDSO);
        is_code.then_some(Self {
            range: hex(start)?..hex(end)?,
            offset: hex(offset)?,
            path: PathBuf::from(path),
        })
    }
}

/// What a process has mapped; in place of one with other rights what this process has, which is of the
/// same program. A process that has given up rights does not choose the files that this one opens.
fn mappings(pid: u32) -> Vec<CodeMapping> {
    let of = |process: &str| fs::read_to_string(format!("/proc/{process}/maps")).ok();
    let childs = has_our_rights(pid).then(|| of(&pid.to_string())).flatten();
    let childs = childs.filter(|maps| !maps.is_empty());
    let maps = childs.or_else(|| of("self")).unwrap_or_default();
    let program = fs::read_link(PROGRAM).unwrap_or_default();
    let mappings = maps.lines().filter_map(CodeMapping::of_line);
    let named = mappings.map(|mapping| match mapping.path == program {
        true => CodeMapping {
            path: PathBuf::from(PROGRAM),
            ..mapping
        },
        false => mapping,
    });
    named.collect()
}

/// Whether all user ids of a process are that of this one.
fn has_our_rights(pid: u32) -> bool {
    let own = nix::unistd::geteuid().to_string();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    ids.is_some_and(|ids| ids.split_whitespace().all(|id| id == own))
}

/// One program or library.
struct LoadedModule {
    range: Range<u64>,
    /// What is added to the addresses in the file.
    bias: u64,
    path: PathBuf,
    /// Loaded when the first name is asked for.
    names: OnceCell<Option<Loader>>,
}

impl LoadedModule {
    fn loader(&self) -> Option<&Loader> {
        let load = || Loader::new(&self.path).ok();
        self.names.get_or_init(load).as_ref()
    }
}

/// The programs and libraries of one process.
pub(super) struct Modules {
    mappings: Vec<CodeMapping>,
    images: Vec<LoadedModule>,
    pub(super) frames: Frames,
}

impl Modules {
    /// Those of the process `pid`. Processes of one program mostly have the same, so an earlier result
    /// is used again.
    pub(super) fn of(pid: u32, earlier: Option<Self>) -> Self {
        let mappings = mappings(pid);
        earlier
            .filter(|earlier| earlier.mappings == mappings)
            .unwrap_or_else(|| Self::new(mappings))
    }

    fn new(mappings: Vec<CodeMapping>) -> Self {
        let mut modules = Self {
            images: Vec::new(),
            frames: Frames::new(),
            mappings: Vec::new(),
        };
        for mapping in &mappings {
            modules.add(mapping);
        }
        modules.mappings = mappings;
        modules
    }

    fn add(&mut self, mapping: &CodeMapping) -> Option<()> {
        let bytes = match mapping.path == Path::new(VDSO) {
            true => of_the_kernel(&mapping.range)?,
            false => map_file(&mapping.path)?,
        };
        let object = object::File::parse(bytes).ok()?;
        let bias = mapping
            .range
            .start
            .wrapping_sub(code_address(&object, mapping.offset)?);
        let sections = sections(&object);
        let name = mapping.path.display().to_string();
        self.frames
            .add_module(Module::new(name, mapping.range.clone(), bias, sections));
        self.images.push(LoadedModule {
            range: mapping.range.clone(),
            bias,
            path: mapping.path.clone(),
            names: OnceCell::new(),
        });
        Some(())
    }

    /// The frames of these calls, inlined functions included, the innermost first.
    pub(super) fn name(&self, calls: &[CallSite]) -> Vec<Frame> {
        let mut frames = Vec::new();
        for call in calls {
            let named = self.frames_of(call);
            frames.extend(
                named
                    .filter(|frames| !frames.is_empty())
                    .unwrap_or_else(|| {
                        vec![Frame {
                            address: call.address,
                            ..Frame::default()
                        }]
                    }),
            );
        }
        frames.truncate(MOST_FRAMES);
        frames
    }

    fn frames_of(&self, call: &CallSite) -> Option<Vec<Frame>> {
        let covers = |image: &&LoadedModule| image.range.contains(&call.lookup);
        let image = self.images.iter().find(covers)?;
        let (loader, at) = (image.loader()?, call.lookup.wrapping_sub(image.bias));
        let mut frames = Vec::new();
        if let Ok(mut found) = loader.find_frames(at) {
            while let Ok(Some(frame)) = found.next() {
                frames.push(described(call.address, &frame));
            }
        }
        if frames.is_empty() {
            frames.push(Frame {
                address: call.address,
                ..Frame::default()
            });
        }
        // With line tables alone, only the symbol has the whole path of a name.
        if let Some(outermost) = frames.last_mut()
            && let Some(symbol) = loader.find_symbol(at)
            && !outermost.function().is_some_and(has_path)
        {
            outermost.function = Some(demangled(symbol));
        }
        Some(frames)
    }
}

/// `wait<app::Slow>` has none.
fn has_path(name: &str) -> bool {
    name.starts_with('<')
        || name
            .split('<')
            .next()
            .is_some_and(|name| name.contains("::"))
}

fn described<R: addr2line::gimli::Reader>(address: u64, frame: &addr2line::Frame<'_, R>) -> Frame {
    let name = frame.function.as_ref().and_then(|function| {
        let name = function.raw_name().ok()?;
        Some(demangled(&name))
    });
    let place = frame.location.as_ref();
    Frame {
        address,
        function: name,
        file: place.and_then(|place| place.file).map(str::to_owned),
        line: place.and_then(|place| place.line),
    }
}

fn demangled(name: &str) -> String {
    addr2line::demangle_auto(name.into(), None).into_owned()
}

/// The address in the file of the code that is mapped from `offset` on.
fn code_address(object: &object::File<'static, SectionBytes>, offset: u64) -> Option<u64> {
    let is_code = |flags| matches!(flags, SegmentFlags::Elf { p_flags } if p_flags & PF_X != 0);
    object
        .segments()
        .filter(|segment| is_code(segment.flags()))
        .find_map(|segment| {
            let (at, length) = segment.file_range();
            // A mapping begins with the page in which the segment begins.
            let covers = offset < at + length && at < offset + LARGEST_PAGE;
            covers.then(|| segment.address().wrapping_add(offset).wrapping_sub(at))
        })
}

const LARGEST_PAGE: u64 = 64 * 1024;

fn sections(
    object: &object::File<'static, SectionBytes>,
) -> ExplicitModuleSectionInfo<SectionBytes> {
    let section = |name| object.section_by_name(name);
    let range = |name| section(name).map(|it| it.address()..it.address() + it.size());
    let data = |name| section(name).and_then(|it| it.data().ok());
    ExplicitModuleSectionInfo {
        text_svma: range(".text"),
        got_svma: range(".got"),
        eh_frame_svma: range(".eh_frame"),
        eh_frame: data(".eh_frame"),
        eh_frame_hdr_svma: range(".eh_frame_hdr"),
        eh_frame_hdr: data(".eh_frame_hdr"),
        debug_frame: data(".debug_frame"),
        ..Default::default()
    }
}

/// Maps a file, for the rest of the process.
fn map_file(path: &Path) -> Option<SectionBytes> {
    // In place of a file that was mapped there may be anything by now, a pipe without a writer too.
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .ok()?;
    let metadata = file.metadata().ok().filter(Metadata::is_file)?;
    let length = usize::try_from(metadata.len()).ok()?;
    let whole = NonZeroUsize::new(length)?;
    // SAFETY: a new mapping, at an address of the kernel's choice. If the file is cut short meanwhile,
    // a fault ends this process, which is its own risk.
    let memory = unsafe {
        mmap(
            None,
            whole,
            ProtFlags::PROT_READ,
            MapFlags::MAP_PRIVATE,
            &file,
            0,
        )
    }
    .ok()?;
    // SAFETY: it has this length, is readable, and is never unmapped.
    Some(unsafe { slice::from_raw_parts(memory.cast().as_ptr(), length) })
}

/// The kernel's functions, if they lie there in this process too.
fn of_the_kernel(range: &Range<u64>) -> Option<SectionBytes> {
    // SAFETY: getauxval reads what the kernel has passed to the program.
    let here = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
    let length = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
    let is_here = here != 0 && here == range.start;
    // SAFETY: the kernel maps them readable at this address, for the life of the process; the length
    // is that of the mapping in a process of the same kernel.
    is_here.then(|| unsafe { slice::from_raw_parts(here as *const u8, length) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_of_files_and_of_the_kernel_is_a_mapping() {
        let code = "55d0-55e0 r-xp 00001000 fd:01 393 /usr/bin/a program";
        let expected = CodeMapping {
            range: 0x55d0..0x55e0,
            offset: 0x1000,
            path: PathBuf::from("/usr/bin/a program"),
        };
        assert_eq!(CodeMapping::of_line(code), Some(expected));
        let kernels = "7ff0-7ff2 r-xp 00000000 00:00 0                          [vdso]";
        assert!(CodeMapping::of_line(kernels).is_some_and(|it| it.path == Path::new(VDSO)));
        for other in [
            "55d0-55e0 r--p 00001000 fd:01 393 /usr/bin/a",
            "7ff0-7ff2 rwxp 00000000 00:00 0 ",
            "7ff0-7ff2 r-xp 00000000 00:00 0 [vsyscall]",
            "zz-7ff2 r-xp 00000000 fd:01 393 /usr/bin/a",
            "55d0",
            "",
        ] {
            assert_eq!(CodeMapping::of_line(other), None, "{other}");
        }
    }

    /// Of this very process: the program, the C library, the kernel's functions.
    #[test]
    fn a_function_of_this_program_has_its_name() {
        let modules = Modules::of(std::process::id(), None);
        let at = a_function_of_this_program_has_its_name as fn() as usize as u64;
        let frames = modules.name(&[CallSite {
            address: at,
            lookup: at,
        }]);
        let name = frames[0].function().unwrap_or_default();
        assert!(
            name.ends_with("tests::a_function_of_this_program_has_its_name"),
            "{frames:?}"
        );
        assert!(
            frames[0]
                .file()
                .is_some_and(|file| file.ends_with("modules.rs")),
            "{frames:?}"
        );
        let nowhere = modules.name(&[CallSite {
            address: 1,
            lookup: 0,
        }]);
        assert_eq!(
            nowhere,
            [Frame {
                address: 1,
                ..Frame::default()
            }]
        );
    }
}
