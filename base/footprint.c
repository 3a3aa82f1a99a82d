/* SPDX-License-Identifier: Apache-2.0 */
#include "base/footprint.h"

#include "base/macro.h"

#include <link.h>
#include <malloc.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* A segment without write permission has never been written, so that its pages can be read again
 * from the file. (Data that relocation changes is in a writable segment, even if it becomes
 * read-only later.) A failure only costs memory. */
static int drop_segments(struct dl_phdr_info *object, size_t size UNUSED, void *page_bytes)
{
    const uintptr_t page = *(const uintptr_t *)page_bytes;

    for (ElfW(Half) i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        uintptr_t start = (object->dlpi_addr + segment->p_vaddr) & ~(page - 1);
        uintptr_t end = object->dlpi_addr + segment->p_vaddr + segment->p_memsz;

        if (segment->p_type != PT_LOAD || (segment->p_flags & PF_W) || end <= start)
            continue;
        size_t len = round_up_u64(end - start, page);
        (void)munlock((const void *)start, len);
        (void)madvise((void *)start, len, MADV_DONTNEED);
    }
    return 0;
}

void footprint_settle(void)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

    (void)malloc_trim(0);
    (void)dl_iterate_phdr(drop_segments, &page);
}
