/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "policy/policy.h"
#include "tests/unit/test.h"

/*
 * Policies as text, with ' in place of ", and claims of Trust Domains that fit them. The claims are
 * made by hand, because a policy depends only on claims.
 */
#define TWELVE(x)   x x x x x x x x x x x x
#define MRTD        TWELVE("a0a0a0a0")
#define RTMR1       TWELVE("a1a1a1a1")
#define RTMR2       TWELVE("a2a2a2a2")
#define OTHER       TWELVE("0b0b0b0b")
#define ZEROS       TWELVE("00000000")
#define OWN         TWELVE("c4c4c4c4")
#define PLATFORM_ID "00112233445566778899aabbccddeeff"
#define SHA256_TEXT "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

#define IMAGE  "'mrtd':['" MRTD "'],'rtmr1':['" RTMR1 "'],'rtmr2':['" RTMR2 "']"
#define IMAGES "'images':{'i':{" IMAGE "}}"
#define REST   "'tenant':'t','may':['create','open'],'volumes':['*'],'nodes':['n-*']"

#define POLICY(images, rules) "{'version':1," images ",'rules':[" rules "]}"
/* One rule r with this td (besides its image) and this owner. */
#define TD_RULE(name, td, owner) \
    "{'name':'" name "','td':{'images':['i']" td "}," owner "," REST "}"
#define TD_POLICY(td, owner) POLICY(IMAGES, TD_RULE("r", td, owner))
#define ANY_OWNER            "'any_owner':true"

/* 2026-11-23T00:00:00Z */
#define NOW ((int64_t)1795392000)

bool policy_from(const char *text, struct policy **out, struct error *err);
struct policy *policy_must(const char *text); /* fails the test when the policy is refused */

/* Fits IMAGE: up to date, and nothing unusual. */
struct tee_claims fitting_td(void);
/* MRTD, OTHER, ... as bytes. */
void set_measurement(uint8_t out[static MEASUREMENT_LEN], const char *hex);

/* Refused with this reason, and this part in the text. */
void assert_judged(const struct policy *policy, const struct principal *who, int64_t now,
                   const char *reason, const char *part);
const struct policy_rule *assert_fits(const struct policy *policy, const struct principal *who,
                                      int64_t now);
