/* SPDX-License-Identifier: Apache-2.0 */
/*
 * budget - what a tenant may use up, checked before the cost arises (I10).
 *
 * A call reserves what it may cost at most, and settles what it did cost.
 * Windows are UTC hours and days. What is used lies in SQLite ("budget.db" of
 * the broker) and is written every quarter of a second and at the end.
 */
#ifndef CL_BROKER_BUDGET_H
#define CL_BROKER_BUDGET_H

#include "base/base.h"
#include "loop/loop.h"

enum budget_kind { BUDGET_CALLS_HOUR, BUDGET_TOKENS_DAY, BUDGET_KINDS };

struct budget_store;

/* One tenant's; 0 = no limit. */
struct budget {
	uint32_t no;
	uint64_t max[BUDGET_KINDS];
	uint64_t used[BUDGET_KINDS], reserved[BUDGET_KINDS];
	int64_t window[BUDGET_KINDS];	/* number of the hour or day since 1970 */
	bool dirty;
	bool told80, told100;		/* of the tokens of this day */
};

/* @path below the working directory, which is the state directory */
int budget_open(struct budget_store **out, const char *path, struct cl_err *err);
void budget_close(struct budget_store *s);
/* budget_load - what was used in the current windows */
int budget_load(struct budget_store *s, struct budget *b, uint32_t no, struct cl_err *err);
int budget_save(struct budget_store *s, struct budget *b, struct cl_err *err);
int budget_begin(struct budget_store *s);	/* around many budget_save */
int budget_commit(struct budget_store *s);
int budget_rm(struct budget_store *s, uint32_t no, struct cl_err *err);

/*
 * budget_reserve - one call and at most @tokens. Return: 0; -EDQUOT with
 * *out_kind exceeded and *out_wait_s until its window ends.
 */
int budget_reserve(struct budget *b, uint64_t tokens, int64_t now_us, enum budget_kind *out_kind,
		   int *out_wait_s);
/* budget_settle - give back the reservation of @reserved tokens, @used were used; @called: the call was made */
void budget_settle(struct budget *b, uint64_t reserved, uint64_t used, bool called, int64_t now_us);

#endif
