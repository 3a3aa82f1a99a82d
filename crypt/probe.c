/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/probe.h"

#include "crypt/device.h"
#include "crypt/layer.h"
#include "crypt/luks.h"
#include "record/layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define INTEGRITY_SECTORS 512u
#define CRYPT_SECTORS     64u
#define KEY_BYTES_MAX     96u

static bool put_up_integrity(const struct volume_name *name, dev_t device, dev_t *out,
                             struct error *err)
{
    struct layer_name layer = layer_name(name, LAYER_INTEGRITY);
    auto_free struct table *table = NULL;
    struct table_info info;

    if (!table_new(&table, err) ||
        !table_add(table, INTEGRITY_SECTORS, err, "integrity",
                   "%u:%u 0 32 J 2 block_size:%u fix_padding", major(device), minor(device),
                   VOLUME_SECTOR_BYTES) ||
        !table_create(layer.text, table, false, err) ||
        !layer_info(name, LAYER_INTEGRITY, &info, err))
        return error_wrap(err, "dm-integrity");
    *out = info.number;
    return true;
}

/* As libcryptsetup writes it. */
static const char *table_cipher(enum integrity integrity)
{
    switch (integrity) {
    case INTEGRITY_AEGIS128:
        return "capi:aegis128-random";
    case INTEGRITY_HMAC_SHA256:
        return "capi:authenc(hmac(sha256),xts(aes))-plain64";
    case INTEGRITY_NONE:
    default:
        return "aes-xts-plain64";
    }
}

/* Any key will do; XTS refuses one with equal halves. */
static void write_key(size_t len, char out[static 2 * KEY_BYTES_MAX + 1])
{
    for (size_t i = 0; i < len; i++)
        (void)snprintf(out + 2 * i, 3, "%02x", (uint8_t)(i + 1));
}

static bool put_up_crypt(const struct volume_name *name, enum integrity integrity, dev_t device,
                         struct error *err)
{
    char key[2 * KEY_BYTES_MAX + 1] = "";
    auto_free struct table *table = NULL;

    write_key(luks_mode_of(integrity)->key_bytes, key);
    bool is_plain = integrity == INTEGRITY_NONE;
    return (table_new(&table, err) &&
            table_add(table, CRYPT_SECTORS, err, "crypt", "%s %s 0 %u:%u 0 %d sector_size:%u%s",
                      table_cipher(integrity), key, major(device), minor(device), is_plain ? 1 : 2,
                      VOLUME_SECTOR_BYTES, is_plain ? "" : " integrity:32:aead") &&
            table_create(layer_name(name, LAYER_CRYPT).text, table, false, err)) ||
           error_wrap(err, "dm-crypt with %s", table_cipher(integrity));
}

static bool put_up(const struct volume_name *name, enum integrity integrity,
                   const char *device_path, struct error *err)
{
    struct stat st;
    auto_close int fd = -1;
    uint64_t bytes = 0;

    /* dm-integrity formats a device that begins with zeros. */
    if (!device_open(device_path, true, &fd, &bytes, err) ||
        !device_write_zeros(fd, 0, DEVICE_BLOCK_BYTES, err) || !device_flush(fd, err))
        return false;
    if (fstat(fd, &st) < 0)
        return error_set(err, ERROR_INTERNAL, "stat %s", device_path);
    dev_t lower = st.st_rdev;
    return (integrity == INTEGRITY_NONE || put_up_integrity(name, lower, &lower, err)) &&
           put_up_crypt(name, integrity, lower, err);
}

bool volume_probe(const struct volume_name *name, enum integrity integrity, const char *device_path,
                  struct error *err)
{
    struct error ignored = ERROR_INIT;

    /* A probe that died may have left layers. */
    bool ok = layers_remove(name, LAYER_TOP, LAYER_BOTTOM, err) &&
              put_up(name, integrity, device_path, err);
    return (layers_remove(name, LAYER_TOP, LAYER_BOTTOM, ok ? err : &ignored)) && ok;
}
