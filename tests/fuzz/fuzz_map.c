/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "crypt/device.h"
#include "crypt/map.h"
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The device of a map, block by block: 64 bytes of the input are the beginning of a block, because
 * most of a real block does not matter here. A map that can be hashed has the same hash again. */

#define PART_BYTES 64u
#define BLOCKS_MAX 64u

/* The superblock's fields lie further behind than PART_BYTES. */
static const struct {
    size_t from, to, len;
} fields[] = { { 8, 192, 8 }, { 16, 208, 8 }, { 24, 336, 4 }, { 28, 340, 4 }, { 48, 64, 8 } };

static void write_blocks(int fd, const uint8_t *bytes, size_t len)
{
    size_t n = len / PART_BYTES;
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < n && i < BLOCKS_MAX; i++) {
        uint8_t block[DEVICE_BLOCK_BYTES] = { 0 };

        memcpy(block, bytes + i * PART_BYTES, PART_BYTES);
        for (size_t f = 0; i == 0 && f < ARRAY_LEN(fields); f++)
            memcpy(block + fields[f].to, bytes + fields[f].from, fields[f].len);
        if (!fd_pwrite_all(fd, block, sizeof(block), (off_t)(i * sizeof(block)), &err))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    auto_close int fd = memfd_create("map", MFD_CLOEXEC);
    uint8_t first[SHA256_LEN], second[SHA256_LEN];
    struct error err = ERROR_INIT;
    struct map_info map;

    if (fd < 0)
        abort();
    write_blocks(fd, bytes, len);
    if (!map_check(fd, &map, &err))
        err = (struct error)ERROR_INIT;
    if (map_hash(fd, first, &err) && map_hash(fd, second, &err))
        assert(bytes_are_equal(first, second, SHA256_LEN));
    return 0;
}
