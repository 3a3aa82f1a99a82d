/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/recover.h"

#include "base/file.h"
#include "base/option.h"
#include "blockd/loop.h"
#include "crypt/activate.h"
#include "ctl/command.h"
#include "ctl/recovery_key.h"
#include "ctl/size.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* "tdvolctl recover": opens a volume with the owner's offline key, without the broker. */

/* Not "tdvol-": tdvol-blockd watches what begins so. */
#define NAME_PREFIX  "tdvolrecover-"
#define NAME_MAX_LEN (VOLUME_NAME_LEN - (int)(sizeof(NAME_PREFIX) - 1))
#define NAME_DIGITS  "abcdefghijklmnopqrstuvwxyz0123456789_."
#define FD_MAX       1023

struct recover_options {
    const char *device, *key, *certificate, *name, *close, *header_sha256;
    uint64_t passphrase_fd;
    bool write;
};

static const struct option table[] = {
    OPTION_TEXT_ROW(
        "device", struct recover_options, device, "PATH",
        "The volume's raw disk: a block device, or the backing file of a local volume."),
    OPTION_TEXT_ROW("key", struct recover_options, key, "FILE",
                    "The recovery key (PEM), closed to group and others. Without it the command "
                    "says which key is needed, and opens nothing."),
    OPTION_TEXT_ROW("cert", struct recover_options, certificate, "FILE",
                    "The recovery certificate (PEM), to be sure that it is the one that the volume "
                    "was formatted with."),
    OPTION_U64_ROW("passphrase-fd", struct recover_options, passphrase_fd, 0, FD_MAX, "N",
                   "Read the key's passphrase from this descriptor; default: from the terminal."),
    OPTION_TEXT_ROW(
        "header-sha256", struct recover_options, header_sha256, "HEX",
        "Open with a header of this digest alone, as \"tdvolctl volume show\" printed it "
        "while there was a broker."),
    OPTION_TEXT_ROW("name", struct recover_options, name, "NAME",
                    "The device becomes /dev/mapper/" NAME_PREFIX "NAME; default: \"volume\"."),
    OPTION_BOOL_ROW("write", struct recover_options, write,
                    "Open the disk itself for writing. A broker that comes back will refuse the "
                    "volume."),
    OPTION_TEXT_ROW("close", struct recover_options, close, "NAME",
                    "Remove the device of this name again."),
};

/* --- the disk --- */

struct disk {
    const char *path;
    int fd;
    uint64_t bytes;
    struct loop_device loop; /* over a file */
};
#define DISK_INIT                          \
    {                                      \
        .fd = -1, .loop = LOOP_DEVICE_INIT \
    }

static void disk_close(struct disk *disk)
{
    close_at(&disk->fd);
    loop_release(&disk->loop);
}

static bool open_file(struct disk *disk, const char *path, bool write, struct error *err)
{
    auto_close int fd = open(path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC);

    if (fd < 0)
        return error_set_errno(err, errno, "%s", path);
    if (!loop_attach(fd, !write, &disk->loop, err))
        return false;
    disk->path = disk->loop.path;
    return true;
}

/* O_EXCL: nobody mounts the disk, and no mapping is over it. */
static bool disk_open(const struct recover_options *options, struct disk *out, struct error *err)
{
    struct stat st;

    out->path = options->device;
    if (stat(options->device, &st) < 0)
        return error_set_errno(err, errno, "%s", options->device);
    if (S_ISREG(st.st_mode) && !open_file(out, options->device, options->write, err))
        return error_wrap(err, "%s", options->device);
    out->fd = open(out->path, O_RDONLY | O_EXCL | O_DIRECT | O_CLOEXEC);
    if (out->fd < 0 && errno == EBUSY)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "%s is in use: close what is mounted or mapped from it first",
                         options->device);
    if (out->fd < 0 || ioctl(out->fd, BLKGETSIZE64, &out->bytes) < 0)
        return error_set_errno(err, errno, "%s", options->device);
    return true;
}

/* --- the header --- */

struct copy {
    bool is_good; /* has the form that tdvol writes */
    struct error why;
    struct recover_header header;
};

/* A and B. */
struct copies {
    struct copy items[2];
};

static void read_copies(const struct disk *disk, struct copies *out)
{
    static const off_t offsets[] = { LAYOUT_HEADER_A_OFFSET, LAYOUT_HEADER_B_OFFSET };

    for (size_t i = 0; i < ARRAY_LEN(offsets); i++)
        out->items[i].is_good =
            recover_read_header(disk->fd, offsets[i], &out->items[i].header, &out->items[i].why);
}

static void print_copy(char letter, const struct copy *copy)
{
    char digest[2 * SHA256_LEN + 1];

    if (!copy->is_good) {
        printf("Header %c: %s.\n", letter, copy->why.text);
        return;
    }
    hex_encode(copy->header.digest, SHA256_LEN, digest);
    printf("Header %c: SHA-256 %s, %s, volume %s\n", letter, digest,
           integrity_name(copy->header.spec.integrity), copy->header.record_id);
    if (!copy->header.has_token) {
        printf("  no recovery token: no recovery key opens it\n");
        return;
    }
    hex_encode(copy->header.token.certificate_sha256, SHA256_LEN, digest);
    printf("  recovery token for the certificate with serial %s, SHA-256 %s\n",
           copy->header.token.serial, digest);
}

static void print_copies(const struct copies *copies)
{
    const struct copy *a = &copies->items[0], *b = &copies->items[1];

    print_copy('A', a);
    print_copy('B', b);
    if (a->is_good && b->is_good &&
        !bytes_are_equal(a->header.digest, b->header.digest, SHA256_LEN))
        puts("  The two differ: one was changed, or a write was interrupted.");
}

/* What the user demands of a copy, besides that the key opens it. */
struct demands {
    const struct recovery_key *key;
    bool has_digest, has_certificate;
    uint8_t digest[SHA256_LEN];
    struct recovery_certificate certificate;
};

static bool read_demands(const struct recover_options *options, struct demands *out,
                         struct error *err)
{
    auto_free char *pem = NULL;
    size_t len = 0;

    if (options->header_sha256) {
        out->has_digest = hex_decode(options->header_sha256, out->digest, SHA256_LEN);
        if (!out->has_digest)
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "--header-sha256 must have 64 hex digits");
    }
    if (!options->certificate)
        return true;
    out->has_certificate = true;
    return file_read(options->certificate, 65536, &pem, &len, err) &&
           (recovery_certificate_read_pem(pem, len, &out->certificate, err) ||
            error_wrap(err, "%s", options->certificate));
}

static bool try_copy(const struct copy *copy, const struct demands *demands, struct secret *out,
                     struct error *err)
{
    const struct recover_header *header = &copy->header;

    if (!copy->is_good) {
        *err = copy->why;
        return false;
    }
    if (demands->has_digest && !bytes_are_equal(header->digest, demands->digest, SHA256_LEN))
        return error_set(err, ERROR_DATA_LOSS, "the header has not the digest that you gave");
    if (!header->has_token)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the header has no recovery token: the policy named no certificate when "
                         "the volume was formatted");
    if (demands->has_certificate &&
        !bytes_are_equal(header->token.certificate_sha256, demands->certificate.sha256, SHA256_LEN))
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the recovery token is for another certificate, with serial %s",
                         header->token.serial);
    return recovery_token_open(&header->token, demands->key, out, err);
}

/* The first copy that fulfils the demands. */
static bool choose_copy(const struct copies *copies, const struct demands *demands, size_t *chosen,
                        struct secret *out, struct error *err)
{
    struct error second = ERROR_INIT;

    *chosen = 0;
    if (try_copy(&copies->items[0], demands, out, err))
        return true;
    *chosen = 1;
    if (try_copy(&copies->items[1], demands, out, &second))
        return true;
    /* Of two reasons, the one about a copy that has a header. */
    if (!copies->items[0].is_good && copies->items[1].is_good)
        *err = second;
    return false;
}

/* --- opening --- */

static bool make_name(const char *text, struct volume_name *out, struct error *err)
{
    size_t len = strlen(text);

    if (len == 0 || len > NAME_MAX_LEN || strspn(text, NAME_DIGITS) != len || text[0] == '.')
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "a name has 1 to %d of the characters a-z, 0-9, _ and .", NAME_MAX_LEN);
    (void)snprintf(out->text, sizeof(out->text), NAME_PREFIX "%s", text);
    return true;
}

static void print_opened(const struct recover_options *options, const struct record *record,
                         const struct volume_device *device, char letter)
{
    const char *name = options->name ? options->name : "volume";
    char size[SIZE_TEXT_LEN];

    size_text(device->size_bytes, size);
    printf("\n%s is open %s, by header %c: %s, %s.\n", device->path,
           options->write ? "for writing" : "read-only: the disk is not changed", letter, size,
           integrity_name(record->spec.integrity));
    if (device->filesystem_bytes == 0)
        puts("Its state block says that no file system was made yet, or cannot be read.");
    puts(
        "\nNot checked, because only the broker's record can tell: whether this header is the one\n"
        "that tdvol wrote, and whether the disk is in its newest state. Whoever knows the recovery\n"
        "certificate can make a disk that opens like this. Look at the data before you trust it.");
    if (record->spec.integrity == INTEGRITY_NONE)
        puts("The volume has no integrity: changes of its data go unnoticed.");
    printf("\n  mount%s %s /mnt\n  umount /mnt && tdvolctl recover --close %s\n",
           options->write ? "" : " -o ro", device->path, name);
}

static bool activate(const struct recover_options *options, const struct disk *disk,
                     struct record *record, const struct secret *passphrase,
                     struct volume_device *out, struct error *err)
{
    auto_loop struct loop_device overlay = LOOP_DEVICE_INIT;
    struct volume_name name;
    struct volume_closing unused;
    struct volume_opening opening = { .device_path = disk->path,
                                      .device_name = options->device,
                                      .record = record,
                                      .recovery_key = passphrase };

    if (!make_name(options->name ? options->name : "volume", &name, err))
        return false;
    if (!options->write) {
        if (!loop_attach_memory(volume_overlay_bytes(&record->spec), &overlay, err))
            return false;
        opening.overlay_path = overlay.path;
    }
    if (volume_activate(&name, &opening, out, &unused, err))
        return true;
    return err->code == ERROR_ALREADY_EXISTS
               ? error_wrap(err, "choose another --name, or close that one")
               : false;
}

static bool open_volume(const struct recover_options *options, struct disk *disk,
                        const struct copies *copies, struct error *err)
{
    auto_recovery_key struct recovery_key *key = NULL;
    auto_secret struct secret passphrase = SECRET_INIT;
    struct demands demands = { .has_digest = false };
    struct volume_device device;
    struct record record;
    size_t chosen = 0;
    /* 0 is stdin, so "not given" is one more than the largest */
    int fd = options->passphrase_fd > FD_MAX ? -1 : (int)options->passphrase_fd;

    if (!read_demands(options, &demands, err) || !recovery_key_load(options->key, fd, &key, err))
        return false;
    demands.key = key;
    if (!choose_copy(copies, &demands, &chosen, &passphrase, err) ||
        !recover_make_record(disk->fd, disk->bytes, &copies->items[chosen].header, &record, err))
        return false;
    /* From here on the disk is the mapping's. */
    close_at(&disk->fd);
    if (!activate(options, disk, &record, &passphrase, &device, err))
        return false;
    print_opened(options, &record, &device, chosen == 0 ? 'A' : 'B');
    return true;
}

static bool recover(const struct recover_options *options, struct error *err)
{
    CLEANUP(disk_close) struct disk disk = DISK_INIT;
    static struct copies copies;

    if (!disk_open(options, &disk, err))
        return false;
    read_copies(&disk, &copies);
    print_copies(&copies);
    if (options->key)
        return open_volume(options, &disk, &copies, err);
    return copies.items[0].is_good || copies.items[1].is_good ||
           error_set(err, ERROR_DATA_LOSS, "%s has no header of tdvol", options->device);
}

static bool close_volume(const char *text, struct error *err)
{
    struct volume_name name;
    struct volume_device device;
    bool found = false;

    /* What a killed recover left behind goes, too, though there is no device yet. */
    if (!make_name(text, &name, err) || !volume_find(&name, &found, &device, err) ||
        !volume_deactivate(&name, err))
        return false;
    return found || error_set(err, ERROR_NOT_FOUND, "there is no device /dev/mapper/%s", name.text);
}

static void print_help(void)
{
    puts(
        "Opens a volume with the owner's offline recovery key, without a broker. Runs as root where\n"
        "the volume's raw disk is. docs/recovery.md has the same by hand, with openssl, cryptsetup\n"
        "and dmsetup.\n"
        "\n"
        "Usage: tdvolctl recover --device PATH [--key FILE] [OPTIONS]\n"
        "       tdvolctl recover --close NAME\n"
        "\n"
        "The disk is not changed unless you say --write: what a file system and dm-integrity write,\n"
        "such as their journals, goes into memory.\n");
    option_print_help(table, ARRAY_LEN(table));
    puts("\nExit codes: 0 done, 1 failed, 2 wrong usage.");
}

static bool check_usage(const struct recover_options *options, struct error *err)
{
    bool has_more = options->device || options->key || options->certificate || options->name ||
                    options->header_sha256 || options->write;

    if (options->close ? has_more : !options->device)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "give --device PATH, or --close NAME alone (see --help)");
    if (!options->key && (options->write || options->certificate || options->header_sha256))
        return error_set(err, ERROR_INVALID_ARGUMENT, "--key is missing (see --help)");
    return true;
}

static bool run(const struct recover_options *options, struct error *err)
{
    if (!check_usage(options, err))
        return false;
    if (geteuid() != 0)
        return error_set(err, ERROR_FAILED_PRECONDITION, "this needs root, for device-mapper");
    return options->close ? close_volume(options->close, err) : recover(options, err);
}

int command_recover(int argc, char *const *argv)
{
    struct recover_options options = { .passphrase_fd = UINT64_MAX };
    struct error err = ERROR_INIT;

    if (option_wants_help(argc, argv)) {
        print_help();
        return COMMAND_DONE;
    }
    if (option_parse(table, ARRAY_LEN(table), &options, argc, argv, NULL, &err) &&
        run(&options, &err))
        return COMMAND_DONE;
    fprintf(stderr, "tdvolctl: recover: %s\n", err.text);
    return err.code == ERROR_INVALID_ARGUMENT ? COMMAND_USAGE : COMMAND_FAILED;
}
