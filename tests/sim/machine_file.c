/* SPDX-License-Identifier: Apache-2.0 */
/* Machines that outlive the process: DIR/machine-HASH.pem, one for each platform. */
#include "base/digest.h"
#include "base/file.h"
#include "tests/sim/forge.h"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MACHINE_FILE_MAX = 65536, NAME_HASH_LEN = 8 };

/* The name is a hash of the certificate's values: a machine whose TCB has changed gets another
 * name. */
static char *path_of(const char *dir, const struct sim_platform *p)
{
    uint8_t hash[SHA256_LEN];
    char hex[2 * NAME_HASH_LEN + 1], *words = NULL, *path = NULL;
    char fmspc[2 * FMSPC_LEN + 1], pceid[2 * PCEID_LEN + 1], svn[2 * TCB_SVN_LEN + 1];
    char id[2 * PLATFORM_ID_LEN + 1];
    struct error err = ERROR_INIT;

    hex_encode(p->fmspc, FMSPC_LEN, fmspc);
    hex_encode(p->pceid, PCEID_LEN, pceid);
    hex_encode(p->tcb_svn, TCB_SVN_LEN, svn);
    hex_encode(p->platform_id, PLATFORM_ID_LEN, id);
    SIM_MUST(asprintf(&words, "%s %s %s %u %u %d %s", fmspc, pceid, svn, p->pce_svn, p->sgx_type,
                      (int)p->ca, id) > 0);
    SIM_MUST(sha256(words, strlen(words), hash, &err));
    hex_encode(hash, NAME_HASH_LEN, hex);
    SIM_MUST(asprintf(&path, "%s/machine-%s.pem", dir, hex) > 0);
    free(words);
    return path;
}

static void save(const struct sim_machine *machine, const char *path)
{
    BIO *bio = BIO_new(BIO_s_mem());
    struct error err = ERROR_INIT;
    char *text = NULL;

    SIM_MUST(bio && PEM_write_bio_X509(bio, machine->pck.cert) == 1);
    SIM_MUST(PEM_write_bio_PKCS8PrivateKey(bio, machine->pck.key, NULL, NULL, 0, NULL, NULL) == 1);
    SIM_MUST(PEM_write_bio_PKCS8PrivateKey(bio, machine->attestation_key, NULL, NULL, 0, NULL,
                                           NULL) == 1);
    long len = BIO_get_mem_data(bio, &text);
    /* if another process was faster, its machine is used */
    if (!file_create(path, 0600, text, (size_t)len, &err) && err.code != ERROR_ALREADY_EXISTS)
        sim_die(err.text);
    BIO_free_all(bio);
}

static bool load(const struct sim_pki *pki, const struct sim_platform *platform, const char *path,
                 struct sim_machine **out)
{
    const struct sim_identity *ca = &pki->pck_ca[platform->ca];
    auto_free char *text = NULL;
    struct error err = ERROR_INIT;
    size_t len = 0;

    if (!file_read(path, MACHINE_FILE_MAX, &text, &len, &err)) {
        if (err.code != ERROR_NOT_FOUND)
            sim_die(err.text);
        return false;
    }
    struct sim_machine *machine = calloc(1, sizeof(*machine));
    BIO *bio = BIO_new_mem_buf(text, (int)len);
    SIM_MUST(machine && bio);
    machine->platform = *platform;
    machine->pck.cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    machine->pck.key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    machine->attestation_key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    SIM_MUST(machine->pck.cert && machine->pck.key && machine->attestation_key);
    if (X509_verify(machine->pck.cert, ca->key) != 1)
        sim_die("a machine in the folder belongs to another PKI: remove DIR/machine-*.pem");
    X509 *const chain[] = { machine->pck.cert, ca->cert, pki->root.cert };
    machine->pck_pem = sim_pem(chain, ARRAY_LEN(chain));
    BIO_free_all(bio);
    *out = machine;
    return true;
}

struct sim_machine *sim_machine_kept(const char *dir, const struct sim_platform *platform)
{
    struct sim_pki *pki = sim_pki_load(dir);
    auto_free char *path = path_of(dir, platform);
    struct sim_machine *machine = NULL;

    if (!load(pki, platform, path, &machine)) {
        struct sim_machine *made = sim_machine_new(pki, platform);

        save(made, path);
        sim_machine_free(made);
        SIM_MUST(load(pki, platform, path, &machine));
    }
    sim_pki_free(pki);
    return machine;
}
