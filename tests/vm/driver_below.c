/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/vm/driver_below.h"

#include "base/file.h"
#include "blockd/place.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE (32 * MIB)

struct scsi_disk disks[DISKS_MAX];
size_t n_disks;

const char *file_of(const char *name)
{
    static char paths[4][PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % ARRAY_LEN(paths)];

    (void)snprintf(path, PATH_MAX, "/tmp/%s.disk", name);
    return path;
}

struct volume_name name_of(const char *volume_id)
{
    struct volume_name name;
    struct error err = ERROR_INIT;

    assert_true(volume_name_make("test.tdvol", volume_id, &name, &err));
    return name;
}

struct device_place place_of_volume(const char *volume_id)
{
    const struct volume_name name = name_of(volume_id);
    struct device_place place;
    struct error err = ERROR_INIT;

    assert_true(place_of(front_path(&front, "upstream"), &name, &place, &err));
    return place;
}

void publish_node(const char *volume_id, const char *node)
{
    const struct device_place place = place_of_volume(volume_id);
    struct error err = ERROR_INIT;

    must(front_request(BLOCK_PLACE, volume_id), NULL);
    assert_true(file_write(place.device, 0600, "", 0, &err));
    assert_int_equal(0, mount(node, place.device, NULL, MS_BIND, NULL));
}

void unpublish_node(const char *volume_id)
{
    const struct device_place place = place_of_volume(volume_id);

    assert_int_equal(0, umount2(place.device, MNT_DETACH));
    assert_int_equal(0, unlink(place.device));
    must(front_request(BLOCK_UNPLACE, volume_id), NULL);
}

struct scsi_disk *attach(const char *name, uint64_t size_bytes)
{
    struct scsi_disk *disk = &disks[n_disks++];

    assert_true(n_disks <= DISKS_MAX);
    scsi_attach(disk, file_of(name), size_bytes, false);
    return disk;
}

void detach(void)
{
    scsi_detach(&disks[--n_disks]);
}

void add(const char *volume_id, enum integrity integrity, const char *fs_type)
{
    front_add(&front, volume_id, integrity, fs_type, SIZE);
    front_record(&front, volume_id)->spec.backing = BACKING_DEVICE;
}

uint64_t device_bytes(const char *volume_id)
{
    return front_record(&front, volume_id)->spec.device_bytes;
}

struct scsi_disk *live_volume(enum integrity integrity)
{
    add("a", integrity, "ext4");
    struct scsi_disk *disk = attach("a", device_bytes("a"));
    publish_node("a", disk->path);
    must(stage_request("a"), NULL);
    write_text("mnt/stage-a/file", "hello");
    return disk;
}

void end_volume_and_disk(void)
{
    must(unstage_request("a"), NULL);
    unpublish_node("a");
    detach();
}

int driver_start(void **state)
{
    n_disks = 0;
    return steps_start(state);
}

int driver_end(void **state)
{
    while (n_disks > 0)
        detach();
    unlink(file_of("a"));
    unlink(file_of("b"));
    return steps_end(state);
}

void refused_with(const struct block_request *request, enum error_code code, const char *words)
{
    struct error err = ERROR_INIT;
    bool done = front_call(&front, request, NULL, &err);

    if (done || err.code != code || !strstr(err.text, words))
        fail_msg("%s: %s, not \"%s\"", done ? "done" : error_code_name(err.code), err.text, words);
}
