/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Gives back the memory that only the start needed. A long-lived process calls it once it is ready.
 * Dynamic linking and the set-up of large libraries touch most of their code, symbols and
 * relocations once. These pages are unchanged copies of files: the kernel reads them again when
 * they are needed. Without this call they count as memory of the process for ever, and mlockall()
 * even locks them. Free heap is returned, too.
 */
void footprint_settle(void);
