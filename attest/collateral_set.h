/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/collateral.h"

/*
 * Collateral as it is sent and stored: all that one kind of platform (FMSPC) and one PCK CA need,
 * as received. Nothing is verified. It comes from a folder, a bundle file, a PCS or a PCCS.
 *
 * A bundle is one JSON file with any number of sets:
 *   { "version": 1, "sets": [ { "fmspc": "90c06f000000", "ca": "platform",
 *       "root_ca_crl": BASE64, "pck_crl": BASE64, "pck_crl_issuer_chain": PEM,
 *       "tcb_info": RESPONSE, "tcb_info_issuer_chain": PEM,
 *       "qe_identity": RESPONSE, "qe_identity_issuer_chain": PEM } ] }
 * RESPONSE is the whole answer as text, because its signature covers its bytes.
 */
#define COLLATERAL_BUNDLE_MAX      ((size_t)32 * 1024 * 1024)
#define COLLATERAL_BUNDLE_SETS_MAX 256
#define COLLATERAL_PART_MAX        ((size_t)1024 * 1024) /* each list, document and chain */
#define COLLATERAL_SET_MAX         (20 * COLLATERAL_PART_MAX)

enum pck_ca { PCK_CA_PLATFORM, PCK_CA_PROCESSOR };
const char *pck_ca_name(enum pck_ca ca); /* "platform", "processor" */

struct collateral_set {
    struct arena memory; /* holds everything below */
    uint8_t fmspc[FMSPC_LEN];
    enum pck_ca ca;
    struct bytes_view tcb_info_response, qe_identity_response;
    struct collateral_source source; /* points into memory */
};
void collateral_set_free(struct collateral_set *set);
#define auto_collateral_set CLEANUP(collateral_set_free)

/* Sets the parts of both responses in source, and reads fmspc and ca from the parts. Nothing is
 * verified, but unreadable parts are an error. */
MUST_USE bool collateral_set_label(struct collateral_set *set, struct error *err);

/* Tells which set a quote needs, from its PCK certificate. Nothing is verified. */
MUST_USE bool collateral_set_needed(const struct quote *quote, uint8_t fmspc[static FMSPC_LEN],
                                    enum pck_ca *ca, struct error *err);

/* Checks that the quote's PCK chain is signed up to this root. It checks only signatures: this is a
 * cheap check before collateral is fetched for a quote. */
MUST_USE bool quote_chain_check_genuine(const struct quote *quote, const struct trust_root *root,
                                        struct error *err);

/* Reads one set from a folder with the file names of collateral_load_folder. */
MUST_USE bool collateral_set_read_folder(const char *path, struct collateral_set *out,
                                         struct error *err);

/* Calls visit for the set in a folder, or else for the sets in its folders, at most
 * COLLATERAL_BUNDLE_SETS_MAX. NOT_FOUND when there is none. */
MUST_USE bool collateral_folders_walk(const char *path,
                                      bool (*visit)(void *cookie, const struct collateral_set *set,
                                                    struct error *err),
                                      void *cookie, struct error *err);

/* Calls visit for each set of a bundle in turn. INVALID_ARGUMENT when the bundle is not valid. */
MUST_USE bool collateral_bundle_walk(const char *json, size_t len,
                                     bool (*visit)(void *cookie, const struct collateral_set *set,
                                                   struct error *err),
                                     void *cookie, struct error *err);
/* Prints a bundle with these sets. The caller frees the text. */
MUST_USE bool collateral_bundle_print(const struct collateral_set *const *sets, size_t n,
                                      char **out, struct error *err);

/* --- from Intel's PCS, version 4 of its API, or a PCCS that mirrors it (attest/pcs.c) --- */

#define PCS_URL_INTEL      "https://api.trustedservices.intel.com"
#define PCS_ROOT_CRL_INTEL "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"

/* https:// uses https_proxy, all_proxy and no_proxy of the environment (a proxy sees only TLS);
 * http:// never leaves the machine. Redirects are not followed. */
struct pcs_options {
    const char *url;          /* https://; http:// only to 127.0.0.0/8 or [::1] */
    const char *ca_file;      /* PEM; NULL: the system's */
    const char *root_crl_url; /* NULL: the service's own, or Intel's for PCS_URL_INTEL */
    bool early;               /* update=early: the newest TCB data, if the service has it */
    uint32_t timeout_ms;      /* of each request; 0: 10 s */
    bool (*is_cancelled)(void *cookie); /* may be NULL; asked about once a second */
    void *cookie;
};
/* Checks the URLs and the CA file's name: INVALID_ARGUMENT when pcs_fetch could not use them. */
MUST_USE bool pcs_options_check(const struct pcs_options *options, struct error *err);
/* Call pcs_init once before threads start, and pcs_done at the end. TLS needs a process that
 * ignores SIGPIPE; secret_harden_process makes it so. */
MUST_USE bool pcs_init(struct error *err);
void pcs_done(void);
/* NOT_FOUND: the service does not know this FMSPC. UNAVAILABLE: a later try may succeed.
 * FAILED_PRECONDITION: the answer is not a PCS's, or is for another platform. What the service
 * sends is not verified here. */
MUST_USE bool pcs_fetch(const struct pcs_options *options, const uint8_t fmspc[static FMSPC_LEN],
                        enum pck_ca ca, struct collateral_set *out, struct error *err);
