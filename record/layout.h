/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"

/*
 * Where the parts of a volume lie (layout version 1). Arithmetic only, no I/O.
 *
 *   device:  [ header A 2 MiB ][ header B 2 MiB ][ at 4 MiB: dm-integrity area or dm-crypt data ]
 *   mapping: [ reserved 16 MiB ][ user data: size_bytes ]
 *   reserved: state block A at 0, B at 1 MiB; map slot 0 at 2 MiB, slot 1 at 8 MiB, 6 MiB each;
 *             the last 2 MiB are unused
 */
#define LAYOUT_HEADER_BYTES      (2u * 1024 * 1024)
#define LAYOUT_HEADER_A_OFFSET   0u
#define LAYOUT_HEADER_B_OFFSET   LAYOUT_HEADER_BYTES
#define LAYOUT_DATA_OFFSET       (4u * 1024 * 1024)
#define LAYOUT_RESERVED_BYTES    (16u * 1024 * 1024)
#define LAYOUT_STATE_A_OFFSET    0u
#define LAYOUT_STATE_B_OFFSET    (1u * 1024 * 1024)
#define LAYOUT_STATE_BYTES       4096u
#define LAYOUT_SLOT_COUNT        2u
#define LAYOUT_SLOT_OFFSET(slot) ((2u + 6u * (slot)) * 1024 * 1024)
#define LAYOUT_SLOT_BYTES        (6u * 1024 * 1024)

#define VOLUME_SECTOR_BYTES 4096u

/*
 * The last bytes of each extent do not go through dm-clone but straight to dm-crypt. They are
 * zeroed when the extent is made. Reason: a discard of a region that is not hydrated would expose
 * sectors without authentication tags. A table refuses all discards when one of its targets refuses
 * them, and this part is such a target.
 */
#define LAYOUT_EXTENT_DIRECT_BYTES 4096u

#define VOLUME_SIZE_MIN (1ull << 20)  /* 1 MiB; file systems need more */
#define VOLUME_SIZE_MAX (64ull << 40) /* 64 TiB: tested up to here */

/*
 * Fills in the sizes of spec for a volume that exposes at least size_bytes: size (rounded up to
 * 4096), device, mapping, sector, journal, interleave, and the layout version. spec->integrity must
 * be set before. OUT_OF_RANGE when size_bytes is outside the limits above.
 */
MUST_USE bool layout_plan(struct volume_spec *spec, uint64_t size_bytes, struct error *err);

/* The largest size_bytes whose device fits into device_bytes; 0 when none does. */
uint64_t layout_usable_bytes(enum integrity integrity, uint64_t device_bytes);

/* The region size of dm-clone for an extent, in bytes: the smallest power of two from 64 KiB on
 * with which the map fills at most a third of its slot. */
uint32_t layout_region_bytes(uint64_t extent_bytes);
