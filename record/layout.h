/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"

/*
 * Where the parts of a volume lie (layout version 1). Arithmetic only, no I/O.
 *
 *   device:   [ header A 2 MiB ][ header B 2 MiB ][ at 4 MiB: dm-integrity area or dm-crypt data ]
 *   mapping:  [ reserved 2 MiB: state block A at 0, B at 1 MiB ][ the rest ]
 *   the rest: without integrity the user data, otherwise groups: [ map ][ data ] [ map ][ data ] ...
 *
 * The maps of all groups, one after the other, are the metadata of a dm-thin pool. The data parts
 * are its blocks. The first group has 64 GiB, and each group is twice as large as the one before;
 * the last one ends with the volume. So a volume grows at its end only, its map grows with it, and
 * nothing is ever moved. A map has at least 64 bytes for each block: dm-thin needs 33 when all its
 * B-tree nodes are half full, and keeps a tenth of the map for itself. It uses at most 15.875 GiB of
 * map, which is enough for 64 TiB.
 *
 * A volume that was taken over (spec.taken_over) keeps its data where the other program put it:
 *
 *   device:   [ header A ][ header B ][ unused ][ at 14 MiB: reserved 2 MiB ][ at 16 MiB: user data ]
 *
 * The reserved part lies in what was the keyslots area of the old header. dm-crypt numbers the sectors
 * of the mapping so that the first one of the user data has number 0, as it had before. The numbers
 * of the reserved sectors before it are those at the end of the 64 bits.
 */
#define LAYOUT_HEADER_BYTES    (2u * 1024 * 1024)
#define LAYOUT_HEADER_A_OFFSET 0u
#define LAYOUT_HEADER_B_OFFSET LAYOUT_HEADER_BYTES
#define LAYOUT_DATA_OFFSET     (4u * 1024 * 1024)
#define LAYOUT_OLD_DATA_OFFSET (16u * 1024 * 1024) /* of a volume that was taken over */
#define LAYOUT_RESERVED_BYTES  (2u * 1024 * 1024)
#define LAYOUT_STATE_A_OFFSET  0u
#define LAYOUT_STATE_B_OFFSET  (1u * 1024 * 1024)
#define LAYOUT_STATE_BYTES     4096u
#define LAYOUT_BLOCK_BYTES     (256u * 1024) /* of the pool: what a first write takes and zeroes */
#define LAYOUT_MAP_BYTES       (16u * 1024 * 1024) /* of the first group */
#define LAYOUT_GROUPS_MAX      12

/* Of dm-integrity, in 512-byte sectors. The kernel keeps the whole journal in memory, and a larger
 * one was not faster. */
#define LAYOUT_INTERLEAVE_SECTORS  32768u
#define LAYOUT_JOURNAL_SECTORS_MAX 32768u

#define VOLUME_SECTOR_BYTES 4096u

/* What the kernel's block layer and device-mapper tables count in, whatever sectors a disk has. */
#define SECTOR_BYTES 512u

#define VOLUME_SIZE_MIN (1ull << 20)  /* 1 MiB; file systems need more */
#define VOLUME_SIZE_MAX (64ull << 40) /* 64 TiB: tested up to here */

/* Offsets are in the mapping. */
struct layout_group {
    uint64_t map_offset, map_bytes;
    uint64_t data_offset, data_bytes; /* a multiple of LAYOUT_BLOCK_BYTES */
};

/* The groups of an authenticated volume of size_bytes, in order. Returns their number. */
size_t layout_groups(uint64_t size_bytes, struct layout_group out[static LAYOUT_GROUPS_MAX]);

/* The size of the mapping that a volume of size_bytes needs. */
uint64_t layout_mapping_bytes(enum integrity integrity, uint64_t size_bytes);

/* The same backwards: the largest volume with this mapping. An authenticated one may have been up to
 * LAYOUT_BLOCK_BYTES smaller. False when no volume has such a mapping. */
bool layout_find_size(enum integrity integrity, uint64_t mapping_bytes, uint64_t *size_bytes);

/* Where the mapping begins on the device, and what dm-crypt adds to the number of a 512-byte sector
 * of it. */
uint32_t layout_data_offset(const struct volume_spec *spec);
uint64_t layout_iv_offset(const struct volume_spec *spec);

/* The size of the device that spec needs, by its mapping and its journal. */
uint64_t layout_device_bytes(const struct volume_spec *spec);

/*
 * Fills in the sizes of spec for a volume that exposes at least size_bytes: size (rounded up to
 * 4096), device, mapping, sector, journal, interleave, and the layout version. spec->integrity and
 * spec->no_journal must be set before. OUT_OF_RANGE when size_bytes is outside the limits above.
 */
MUST_USE bool layout_plan(struct volume_spec *spec, uint64_t size_bytes, struct error *err);

/* The same for a volume that is taken over as it lies on a device of device_bytes. spec->sector_bytes
 * must be set before, too: that of the old header. The volume exposes all that lies behind it, down to
 * whole 4096 bytes. */
MUST_USE bool layout_plan_take_over(struct volume_spec *spec, uint64_t device_bytes,
                                    struct error *err);

/* The same for a volume that exists. It keeps its journal, which was planned for its first size.
 * OUT_OF_RANGE also when size_bytes is less than the volume has. */
MUST_USE bool layout_plan_growth(struct volume_spec *spec, uint64_t size_bytes, struct error *err);

/* The largest size_bytes whose device fits into device_bytes; 0 when none does. Of like only
 * integrity, no_journal and taken_over count. */
uint64_t layout_usable_bytes(const struct volume_spec *like, uint64_t device_bytes);
