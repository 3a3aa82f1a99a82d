/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "tests/sim/sim.h"

/*
 * A Trust Domain and the machine under it, described in JSON; every member may be left out, and an
 * unknown one is refused:
 *   { "version": 4, "body_type": 2, "mrtd": HEX, "rtmr0": HEX, ... "td_attributes": "0x10000000",
 *     "xfam": "0x..", "tee_tcb_svn": HEX, "mrservicetd": HEX, ...
 *     "events": [ { "register": "rtmr3", "type": 6, "text": "what was measured" } ],
 *     "platform": { "fmspc": HEX, "platform_id": HEX, "tcb_svn": HEX, "pce_svn": 11, ... } }
 * Events make an event log, and the RTMRs get the values to which it replays.
 */
#define TD_FILE_LEN_MAX ((size_t)1024 * 1024)

/* The part of it that a command's --help shows. */
#define TD_FILE_LESSON                                                                                \
    "The TD is described by a JSON file; each member may be left out:\n"                              \
    "  version (4, 5), body_type (2, 3), tee_tcb_svn, tee_tcb_svn2, mrseam, mrsignerseam,\n"          \
    "  seam_attributes, mrtd, mrconfigid, mrowner, mrownerconfig, rtmr0 to rtmr3, mrservicetd\n"      \
    "  as hex; td_attributes and xfam as \"0x...\"; events, a list of {\"register\": \"rtmr3\",\n"    \
    "  \"type\": 6, \"text\": \"...\"}, instead of rtmr0 to rtmr3; platform, an object with fmspc,\n" \
    "  pceid, tcb_svn, platform_id as hex, pce_svn, sgx_type and ca (platform, processor)."

struct td_file {
    struct sim_td td;
    struct sim_platform platform;
    uint8_t *event_log; /* NULL when there are no events */
    size_t event_log_len;
};
void td_file_free(struct td_file *file);
#define auto_td_file CLEANUP(td_file_free)

/* path NULL: only the defaults. */
MUST_USE bool td_file_read(const char *path, struct td_file *out, struct error *err);
