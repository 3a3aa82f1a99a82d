/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#define ADDRESS_HOST_MAX 63 /* bytes, without NUL; IPv6 with a zone has less */

/* The name that rate limits count by: an IPv4 address, or the /64 of an IPv6 address, because
 * one host usually has a whole /64. */
#define ADDRESS_NETWORK_LEN (ADDRESS_HOST_MAX + 1) /* bytes, with NUL */
void address_network(const char *host, char out[static ADDRESS_NETWORK_LEN]);
