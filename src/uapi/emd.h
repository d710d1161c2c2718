/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * EMD: the ioctl surface of /dev/emd. docs/ioctl.md says how to use it.
 *
 * src/uapi/ says the same in Rust; a host test compares every size, offset and constant.
 * Structures have no padding and are the same for 32-bit and 64-bit programs.
 * [in] is read from the caller, [out] is written by the kernel. All _sectors are of 512 bytes.
 */
#ifndef _UAPI_EMD_H
#define _UAPI_EMD_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define EMD_API_MAJOR 1 /* Version of the surface; a change here breaks callers */
/*
 * Grows with every compatible addition. Since
 * 1: EMD_IOC_POLICY, crash_policy of a volume, EMD_CREATE_LOG, EMD_FORMAT_HOLE_LOG
 * 2: rate_min_kib and rate_max_kib of a volume; marks of RAID 10 and 1E count sectors of the volume
 * 3: EMD_CREATE_ZERO; slot and reason of a range, EMD_REASON_*; EMD_MEMBER_FORCE to add a disk or make it a spare;
 *    EMD_MEMBER_INDEX;
 *    a scan of devices starts the sets of these devices only, one that is dry counts only what may be started;
 *    EMD_EVENT_READ_ONLY is told, EMD_EVENT_SET_FOUND has the number of volumes
 * 4: regions of emd_create (was reserved), EMD_REGIONS_*
 * 5: EMD_FORMAT_REBUILDS_ANEW, EMD_LEVEL_HOLE_LOG
 * 6: flags of emd_event (was reserved), EMD_EVENT_PART
 * 7: EMD_IOC_MISMATCHES, EMD_MISMATCHES_*; ranges of a volume are by their first sectors
 */
#define EMD_API_MINOR 7
#define EMD_IOC_TYPE 0xed /* Type byte of every ioctl */

/* Longest argument structure accepted, whatever a later version may need */
#define EMD_ARG_BYTES_MAX 4096
#define EMD_MEMBERS_MAX 64 /* Most members of a volume */
#define EMD_DISKS_MAX 256 /* Most disks of a set, and most devices or spares in one call */
#define EMD_VOLUMES_MAX 128 /* Most volumes of a set */
#define EMD_NAME_BYTES 40 /* Length of a name's field, NUL included */
#define EMD_NAME_BYTES_MAX 32 /* Longest name in bytes of UTF-8, NUL not counted */
#define EMD_REASON_BYTES 208 /* Room that holds every reason, NUL included */
#define EMD_EVENTS_MAX 256 /* Events that are kept for readers that fell behind */
#define EMD_NONE 0xffffffffu /* "None" in 32-bit fields that name an array, disk, volume or slot */
#define EMD_NUMBER_MAX 0xfffff /* Largest array number: minors are 20 bits */

#define EMD_TARGET_NONE 0 /* Target: none */
#define EMD_TARGET_NUMBER 1 /* Target: the array /dev/emdN, N in number */
#define EMD_TARGET_ARRAY 2 /* Target: the array (volume) with this id */
#define EMD_TARGET_SET 3 /* Target: the set with this id */
#define EMD_TARGET_ALL 4 /* Target: everything */

#define EMD_SCAN_DRY_RUN (1u << 0) /* Scan: say what would be done and do nothing */
/* Scan: start arrays with members missing, as long as no data is */
#define EMD_SCAN_DEGRADED (1u << 1)
#define EMD_SCAN_FORCE (1u << 2) /* Scan: start also arrays that are both dirty and degraded */

/* Create: take the members' redundancy as right; no resync */
#define EMD_CREATE_ASSUME_CLEAN (1u << 0)
#define EMD_CREATE_FORCE (1u << 1) /* Create: on disks that carry a known signature too */
/* Create: with a log that closes the write hole (levels with parity) */
#define EMD_CREATE_LOG (1u << 2)
/* Create: members are filled with zeroes, by disks that do that by themselves, and need no resync */
#define EMD_CREATE_ZERO (1u << 3)

/* Create, regions: as is usual in the format */
#define EMD_REGIONS_USUAL 0
/* Create, regions: recorded, so that only what was being written is resynced after a crash */
#define EMD_REGIONS_YES 1
#define EMD_REGIONS_NO 2 /* Create, regions: not recorded */

#define EMD_DELETE_FORCE (1u << 0) /* Delete: a volume that holds a known signature too */

#define EMD_MEMBER_DEDICATED (1u << 0) /* Member: the spare is for the target array only */
#define EMD_MEMBER_FORCE (1u << 1) /* Member: even if the array loses redundancy (remove, fail); whatever the disk holds (add, spare) */
/* Member: dev is the disk's index in the set (remove only): it need not be here */
#define EMD_MEMBER_INDEX (1u << 2)

#define EMD_REC_SET 1 /* Record: a set */
#define EMD_REC_DISK 2 /* Record: a disk of a set */
#define EMD_REC_VOLUME 3 /* Record: a volume of a set */
#define EMD_REC_MEMBER 4 /* Record: a member of a volume */
#define EMD_REC_NOTE 5 /* Record: a remark for people */
#define EMD_REC_FORMAT 6 /* Record: a format */
#define EMD_REC_LEVEL 7 /* Record: a level and layout that a format can express */
#define EMD_REC_RANGE 8 /* Record: a place that people should know of */

#define EMD_DISK_FAILURE_PREDICTED (1u << 0) /* Disk flag: it predicts its own failure */

#define EMD_DISK_ONLINE 1 /* Disk state: working */
#define EMD_DISK_FAILED 2 /* Disk state: recorded as failed */
#define EMD_DISK_MISSING 3 /* Disk state: known, not here */
#define EMD_DISK_STALE 4 /* Disk state: here, its data old */

#define EMD_ROLE_UNUSED 1 /* Disk role: in no volume, no spare */
#define EMD_ROLE_MEMBER 2 /* Disk role: member of a volume */
#define EMD_ROLE_GLOBAL_SPARE 3 /* Disk role: spare for every volume of the set */
#define EMD_ROLE_DEDICATED_SPARE 4 /* Disk role: spare for one volume */

#define EMD_MEMBER_IN_SYNC 1 /* Member state: holds what it should */
#define EMD_MEMBER_REBUILDING 2 /* Member state: being rebuilt */
#define EMD_MEMBER_FAILED 3 /* Member state: failed */
#define EMD_MEMBER_MISSING 4 /* Member state: no disk */

#define EMD_CONSISTENCY_CLEAN 1 /* Consistency: redundancy agrees with the data */
#define EMD_CONSISTENCY_DIRTY 2 /* Consistency: writes were in flight */
#define EMD_CONSISTENCY_INITIALISING 3 /* Consistency: being established */

#define EMD_FORMAT_SPARES_GLOBAL (1u << 0) /* Format flag: records spares for the whole set */
#define EMD_FORMAT_SPARES_DEDICATED (1u << 1) /* Format flag: records spares for one volume */
/* Format flag: records how far an initialisation, a resync or (without EMD_FORMAT_REBUILDS_ANEW) a rebuild got */
#define EMD_FORMAT_CHECKPOINTS (1u << 2)
/* Format flag: records which regions are being written, so that only these are resynced */
#define EMD_FORMAT_REGION_LOG (1u << 3)
#define EMD_FORMAT_BAD_RANGES (1u << 4) /* Format flag: records bad ranges */
/* Format flag: has a place for a log that closes the write hole, of levels with EMD_LEVEL_HOLE_LOG */
#define EMD_FORMAT_HOLE_LOG (1u << 5)
/* Format flag: how far a rebuild got is not recorded: after a restart it begins anew */
#define EMD_FORMAT_REBUILDS_ANEW (1u << 6)

/* Policy for crashes: none; redundancy is taken as right after one */
#define EMD_POLICY_NONE 1
#define EMD_POLICY_RESYNC 2 /* Policy for crashes: resync */
/* Policy for crashes: resync, and a log that closes the write hole */
#define EMD_POLICY_LOG 3

#define EMD_RANGE_MISMATCH 1 /* Range: redundancy did not agree there */
#define EMD_RANGE_BAD 2 /* Range: the disk holds nothing usable there */
/* Range flag: there are more than are in the answer (QUERY, SCAN), or than are kept (MISMATCHES) */
#define EMD_RANGE_MORE (1u << 0)

/* Most places of a volume that a check or repair found not to agree, and that are kept */
#define EMD_MISMATCHES_MAX 65536
#define EMD_MISMATCHES_QUERY_MAX 256 /* Most of them that QUERY and SCAN give, and that are kept of a resync */
#define EMD_MISMATCHES_PAGE_MAX 1024 /* Most of them that one MISMATCHES gives */

#define EMD_LEVEL_USUAL (1u << 0) /* Level flag: the usual layout of the level in this format */
/* Level flag: volumes of the level can have the log of EMD_FORMAT_HOLE_LOG */
#define EMD_LEVEL_HOLE_LOG (1u << 1)

#define EMD_TASK_OP_START 1 /* Task operation: start one of the kind given */
#define EMD_TASK_OP_PAUSE 2 /* Task operation: stop for now */
#define EMD_TASK_OP_RESUME 3 /* Task operation: go on */
#define EMD_TASK_OP_CANCEL 4 /* Task operation: stop for good */
#define EMD_TASK_OP_LIMITS 5 /* Task operation: set limits of rate */

#define EMD_NR_VERSION 0x00 /* Number of the version call */
#define EMD_NR_FORMATS 0x01 /* Number of the formats call */
#define EMD_NR_LIST 0x02 /* Number of the list call */
#define EMD_NR_QUERY 0x03 /* Number of the query call */
#define EMD_NR_SCAN 0x04 /* Number of the scan call */
#define EMD_NR_CREATE 0x05 /* Number of the create call */
#define EMD_NR_STOP 0x06 /* Number of the stop call */
#define EMD_NR_DELETE 0x07 /* Number of the delete call */
#define EMD_NR_MEMBER 0x08 /* Number of the member call */
#define EMD_NR_RENAME 0x09 /* Number of the rename call */
#define EMD_NR_TASK 0x0a /* Number of the task call */
#define EMD_NR_EVENTS 0x0b /* Number of the events call */
#define EMD_NR_POLICY 0x0c /* Number of the policy call */
#define EMD_NR_MISMATCHES 0x0d /* Number of the mismatches call */

/* How a volume is, in one word. */
#define EMD_STATE_OPTIMAL 1 /* Every member is in sync */
/* Members are lost, and there is redundancy left everywhere */
#define EMD_STATE_PARTIALLY_OPTIMAL 2
#define EMD_STATE_DEGRADED 3 /* Members are lost; somewhere one more would lose data */
#define EMD_STATE_FAILED 4 /* Data is lost or out of reach */
#define EMD_STATE_INACTIVE 5 /* Not started, although it could be */

/* What may be done with a volume. */
#define EMD_ACCESS_READ_WRITE 1 /* Read and write */
#define EMD_ACCESS_READ_ONLY 2 /* Only read; the reason is given */
#define EMD_ACCESS_REFUSED 3 /* Never started; the reason is given */

/* Work in the background. */
#define EMD_TASK_INITIALISE 1 /* Establishing redundancy for the first time */
#define EMD_TASK_REBUILD 2 /* Filling a member from the others */
#define EMD_TASK_RESYNC 3 /* Making redundancy agree after a crash */
#define EMD_TASK_CHECK 4 /* Reading everything and comparing */
#define EMD_TASK_REPAIR 5 /* Comparing, and putting right what does not agree */

/* What a task is doing. */
#define EMD_TASK_STATE_RUNNING 1 /* It works */
#define EMD_TASK_STATE_PAUSED 2 /* Somebody stopped it for now */
#define EMD_TASK_STATE_WAITING 3 /* It waits for another one on the same disks */

/* Why a repair, or a sync, wrote the member that it wrote. */
#define EMD_REASON_PARITY 1 /* Parity was worked out anew from data */
#define EMD_REASON_SYNDROMES 2 /* Both parities of a RAID 6 say that this member, and no other, was wrong */
#define EMD_REASON_MAJORITY 3 /* More copies agreed than did not */
#define EMD_REASON_FIRST_COPY 4 /* There was no majority of copies: of equal ones the one with the lowest slot was taken */

/* What to do with a disk. */
/* Make it part of the set; it fills a lost member's place when there is one */
#define EMD_MEMBER_OP_ADD 1
#define EMD_MEMBER_OP_REMOVE 2 /* Take it out of the set */
#define EMD_MEMBER_OP_FAIL 3 /* Treat it as failed */
#define EMD_MEMBER_OP_SPARE 4 /* Make it a spare (part of the set too, when it is not yet) */
#define EMD_MEMBER_OP_UNSPARE 5 /* It is no spare any more */

/* What happened. What value means is said with each. */
/*
 * The reader fell behind: value events before the next one are lost. Made by read, never
 * posted; its sequence number is that of the last one lost
 */
#define EMD_EVENT_LOST 1
#define EMD_EVENT_SET_FOUND 2 /* A set was found and read. value: volumes */
#define EMD_EVENT_SET_GONE 3 /* A set is no longer held */
#define EMD_EVENT_ARRAY_STARTED 4 /* An array was started. value: its state (EMD_STATE_*) */
#define EMD_EVENT_ARRAY_STOPPED 5 /* An array was stopped */
#define EMD_EVENT_VOLUME_CREATED 6 /* A volume was created. value: sectors */
#define EMD_EVENT_VOLUME_DELETED 7 /* A volume was deleted */
#define EMD_EVENT_VOLUME_RENAMED 8 /* A volume was renamed; the text is the new name */
#define EMD_EVENT_STATE_CHANGED 9 /* An array's state changed. value: EMD_STATE_* */
/* A member failed. value: sector of the member where the error was, or 0 */
#define EMD_EVENT_MEMBER_FAILED 10
#define EMD_EVENT_DISK_ADDED 11 /* A disk joined a set */
#define EMD_EVENT_DISK_REMOVED 12 /* A disk left a set */
#define EMD_EVENT_DISK_LOST 13 /* A disk of a set is gone from the machine */
#define EMD_EVENT_SPARE_CHANGED 14 /* A disk became a spare, or stopped being one. value: 1 or 0 */
#define EMD_EVENT_SPARE_ACTIVATED 15 /* A spare took the place of a member */
#define EMD_EVENT_TASK_STARTED 16 /* A task started. value: EMD_TASK_* (its kind); the text is its word */
#define EMD_EVENT_TASK_PROGRESS 17 /* A task got on. value: per mille; the text is the kind's word */
/* A task is done. value: sectors that did not agree (check, repair), else 0; the text is the kind's word */
#define EMD_EVENT_TASK_DONE 18
#define EMD_EVENT_TASK_STOPPED 19 /* A task stopped before its end. value: per mille; the text is the kind's word */
/*
 * A member could not read. value: sector of the member, which begins at offset_sectors (emd_rec_member) of the
 * disk; for a write that is of no single place, 0
 */
#define EMD_EVENT_READ_ERROR 20
#define EMD_EVENT_WRITE_ERROR 21 /* A member could not write. value: likewise */
/* A read error was put right by writing what the others say. value: likewise */
#define EMD_EVENT_READ_REPAIRED 22
/*
 * Redundancy did not agree. value: first sector, of each member, for RAID 10 and 1E of the volume; a
 * repair says which member it wrote (slot), and the text why it was this one
 */
#define EMD_EVENT_MISMATCH 23
#define EMD_EVENT_READ_ONLY 24 /* An array was started that takes no writes; the text says why */
#define EMD_EVENT_METADATA_ERROR 25 /* Metadata could not be written; the text says where and why */
#define EMD_EVENT_NOTE 26 /* Something a person should know; the text says what */

/* Event flag of a task that is done: it went on from a mark, and what it found before that is not known any more */
#define EMD_EVENT_PART (1u << 0)

/* The start of every argument. */
struct emd_head {
	__u32 size; /* [in] sizeof the whole argument structure, as the caller was compiled */
	__u32 flags; /* [in] Bits of the call; unknown ones are refused */
	__u64 reason_ptr; /* [in] Where a readable reason goes, or 0 */
	/* [in] Room there in bytes; the text is cut to it and always ends with NUL */
	__u32 reason_len;
	__u32 reserved; /* Must be 0 */
};

/* A buffer for records. */
struct emd_out {
	__u64 ptr; /* [in] Where records go, or 0 */
	__u32 len; /* [in] Room there in bytes */
	__u32 needed; /* [out] Bytes that all records take */
	__u32 count; /* [out] Whole records that were written */
	__u32 reserved; /* Must be 0 */
};

/* What a call is about. */
struct emd_target {
	__u32 kind; /* [in] EMD_TARGET_* */
	__u32 number; /* [in] N of /dev/emdN, with EMD_TARGET_NUMBER only */
	__u8 id[16]; /* [in] Id, with EMD_TARGET_ARRAY and EMD_TARGET_SET only */
};

/* Argument of EMD_IOC_VERSION. */
struct emd_version {
	struct emd_head head; /* Head; no flags */
	__u32 api_major; /* [out] EMD_API_MAJOR of the module */
	__u32 api_minor; /* [out] EMD_API_MINOR of the module */
	__u32 members_max; /* [out] Most members of a volume */
	__u32 disks_max; /* [out] Most disks of a set */
	__u32 volumes_max; /* [out] Most volumes of a set */
	__u32 events_max; /* [out] Events that are kept */
	__u64 event_next_seq; /* [out] Sequence number that the next event will have */
	char module[40]; /* [out] Version of the module, NUL-terminated */
};

/* Argument of EMD_IOC_LIST and EMD_IOC_FORMATS. */
struct emd_list {
	struct emd_head head; /* Head; no flags */
	struct emd_out out; /* Records */
};

/* Argument of EMD_IOC_QUERY. */
struct emd_query {
	struct emd_head head; /* Head; no flags */
	struct emd_target target; /* The set, or an array of it */
	struct emd_out out; /* Records */
};

/* Argument of EMD_IOC_MISMATCHES. */
struct emd_mismatches {
	struct emd_head head; /* Head; no flags */
	struct emd_target target; /* The array */
	/* [in] Ranges that begin before this sector are left out; 0 at first. [out] The same for the next page */
	__u64 from_sector;
	/* [in] 0 at first, then as it was given. [out] Where among the ranges that begin there the next page begins */
	__u32 from_order;
	__u32 left; /* [out] Ranges that come after this page; 0: it was the last one */
	struct emd_out out; /* Records */
};

/* Argument of EMD_IOC_SCAN. */
struct emd_scan {
	struct emd_head head; /* Head; flags EMD_SCAN_* */
	/*
	 * [in] Array of device numbers (major << 32 | minor), or 0 for every block device. With some, only the sets
	 * that they are of are started and answered
	 */
	__u64 devs_ptr;
	__u32 devs_count; /* [in] How many; at most EMD_DISKS_MAX */
	__u32 disks_seen; /* [out] Devices that were looked at */
	__u8 set_id[16]; /* [in] Only the set with this id; zeros for all */
	__u32 sets_found; /* [out] Sets found */
	__u32 arrays_started; /* [out] Arrays started (that would be started, with EMD_SCAN_DRY_RUN) */
	struct emd_out out; /* Records */
};

/* Argument of EMD_IOC_CREATE. */
struct emd_create {
	struct emd_head head; /* Head; flags EMD_CREATE_* */
	char format[16]; /* [in] Format's name; may be empty when set_id is given */
	/* [in] An existing set to add the volume to, or zeros for a new set. [out] The set */
	__u8 set_id[16];
	char set_name[40]; /* [in] Name of a new set */
	char volume_name[40]; /* [in] Name of the volume */
	char level[16]; /* [in] Level (raid5); empty makes a set without a volume */
	char layout[24]; /* [in] Layout (left-symmetric, near=2); empty takes the format's usual one */
	/* [in] Size that users see; 0 takes all that fits. [out] The size it got */
	__u64 size_sectors;
	__u32 chunk_sectors; /* [in] Chunk; 0 takes the format's usual one */
	/* [in] Members; at most EMD_MEMBERS_MAX (for a set without a volume, EMD_DISKS_MAX) */
	__u32 members_count;
	__u64 members_ptr; /* [in] Array of device numbers in raid-disk order; 0 leaves a slot empty */
	__u64 spares_ptr; /* [in] Array of device numbers of spares */
	__u32 spares_count; /* [in] Spares; at most EMD_DISKS_MAX */
	__u32 number; /* [out] N of /dev/emdN, or EMD_NONE */
	__u8 array_id[16]; /* [out] Id of the volume */
	/*
	 * [in] Spans of a two-level volume (RAID 50, 60), striped over them; 0 and 1 for none.
	 * members_count counts over all spans
	 */
	__u32 spans;
	/* [in] Whether it is recorded which regions are being written, EMD_REGIONS_*; 0 is what is usual */
	__u32 regions;
};

/* Argument of EMD_IOC_STOP. */
struct emd_stop {
	struct emd_head head; /* Head; no flags */
	struct emd_target target; /* An array, a set, or everything */
	__u32 arrays_stopped; /* [out] Arrays stopped */
	__u32 reserved; /* Must be 0 */
};

/* Argument of EMD_IOC_DELETE. */
struct emd_delete {
	struct emd_head head; /* Head; flags EMD_DELETE_* */
	/* An array (deletes the volume) or a set (erases its metadata from its disks) */
	struct emd_target target;
};

/* Argument of EMD_IOC_MEMBER. */
struct emd_member {
	struct emd_head head; /* Head; flags EMD_MEMBER_DEDICATED, EMD_MEMBER_FORCE, EMD_MEMBER_INDEX */
	struct emd_target target; /* The set, or an array of it */
	__u64 dev; /* [in] The disk: major << 32 | minor; with EMD_MEMBER_INDEX its index in the set */
	__u16 op; /* [in] EMD_MEMBER_OP_* */
	__u16 reserved0; /* Must be 0 */
	__u32 slot; /* [out] Slot that the disk takes (or took), or EMD_NONE */
	__u32 number; /* [out] Array number that the slot belongs to, or EMD_NONE */
	__u32 reserved1; /* Must be 0 */
};

/* Argument of EMD_IOC_RENAME. */
struct emd_rename {
	struct emd_head head; /* Head; no flags */
	struct emd_target target; /* The array */
	char name[40]; /* [in] New name */
};

/* Argument of EMD_IOC_POLICY. */
struct emd_policy {
	struct emd_head head; /* Head; no flags */
	struct emd_target target; /* The array */
	__u16 policy; /* [in] EMD_POLICY_* */
	__u16 reserved0; /* Must be 0 */
	__u32 reserved1; /* Must be 0 */
};

/* Argument of EMD_IOC_TASK. */
struct emd_task {
	struct emd_head head; /* Head; no flags */
	struct emd_target target; /* The array, or everything (limits only) */
	__u16 op; /* [in] EMD_TASK_OP_* */
	__u16 kind; /* [in] EMD_TASK_* with EMD_TASK_OP_START, else 0 */
	/*
	 * [in] Least beside users in KiB/s of each member, with EMD_TASK_OP_LIMITS; else 0. 0 of one array is
	 * what all have; of all it is the usual limit, 1000
	 */
	__u32 rate_min_kib;
	__u32 rate_max_kib; /* [in] Most, likewise; 0 of one array is what all have; of all it is no limit */
	__u32 reserved; /* Must be 0 */
};

/* Argument of EMD_IOC_EVENTS. */
struct emd_events {
	struct emd_head head; /* Head; no flags */
	/* [in] Sequence number to go on from; 0 for the oldest kept. [out] Where it goes on */
	__u64 seq;
	__u64 oldest_seq; /* [out] Sequence number of the oldest event kept */
	__u64 next_seq; /* [out] Sequence number that the next event will have */
};

/* What read on /dev/emd gives. */
struct emd_event {
	__u32 size; /* Length of the record: step by it */
	__u16 kind; /* EMD_EVENT_*; skip unknown ones */
	__u16 slot; /* Member, or 0xffff */
	__u64 seq; /* Sequence number; rises by one from event to event */
	__u64 time_ns; /* Nanoseconds since 1970 */
	__u8 set_id[16]; /* The set, or zeros */
	__u32 number; /* N of /dev/emdN, or EMD_NONE */
	__u32 flags; /* EMD_EVENT_PART */
	__u64 dev; /* The disk (major << 32 | minor), where a disk and no member is what it is about; else 0 */
	__u64 value; /* What the kind says */
	char text[128]; /* For people, NUL-terminated */
};

/* The start of every record. */
struct emd_rec {
	__u32 size; /* Length of the record: step by it */
	__u16 kind; /* EMD_REC_*; skip unknown ones */
	__u16 reserved; /* 0 */
};

/* Record: a set. Its disks, volumes and notes follow it. */
struct emd_rec_set {
	struct emd_rec rec; /* Start */
	__u8 id[16]; /* Id */
	char format[16]; /* Format's name */
	char name[40]; /* Name */
	__u64 generation; /* Generation of the metadata */
	__u32 disks; /* Disks it has (records follow in QUERY and SCAN) */
	__u32 volumes; /* Volumes it has */
};

/* Record: a disk of the set before it. */
struct emd_rec_disk {
	struct emd_rec rec; /* Start */
	__u64 dev; /* major << 32 | minor, or 0 when it is not here */
	__u64 size_sectors; /* Size; 0 when it is not here */
	__u64 usable_sectors; /* Part of it that volumes may use */
	__u64 read_errors; /* Reads that failed */
	__u64 write_errors; /* Writes that failed */
	__u32 index; /* Index in the set; stable while the set lives */
	__u16 state; /* EMD_DISK_ONLINE … */
	__u16 role; /* EMD_ROLE_* */
	__u32 dedicated_volume; /* Index of the volume that a dedicated spare is for, or EMD_NONE */
	__u32 flags; /* EMD_DISK_FAILURE_PREDICTED */
	char label[40]; /* What the metadata calls it */
};

/* Record: a volume of the set before it. Its members follow it (not in LIST). */
struct emd_rec_volume {
	struct emd_rec rec; /* Start */
	__u8 id[16]; /* Id */
	char name[40]; /* Name */
	char level[16]; /* Level of each span */
	char layout[24]; /* Layout of each span; - where the level has none */
	__u64 size_sectors; /* Size that users see */
	__u64 member_sectors; /* Sectors used on each member */
	/* Sectors that agree, while initialising: of each member, for RAID 10 and 1E of the volume; else 0 */
	__u64 consistent_sectors;
	__u64 read_errors; /* Reads of members that failed */
	__u64 write_errors; /* Writes to members that failed */
	__u32 number; /* N of /dev/emdN, or EMD_NONE while it is not started */
	__u32 index; /* Index in the set */
	__u32 chunk_sectors; /* Chunk; 0 where the level has none */
	__u16 members; /* Members of a span */
	__u16 spans; /* Spans */
	__u16 state; /* EMD_STATE_* */
	__u16 consistency; /* EMD_CONSISTENCY_* */
	__u16 access; /* EMD_ACCESS_* */
	__u16 task_kind; /* Running task, EMD_TASK_*, or 0 */
	__u16 task_state; /* EMD_TASK_STATE_*, or 0 */
	__u16 crash_policy; /* What is done about crashes, EMD_POLICY_*; 0 for levels without parity */
	__u32 task_rate_kib; /* KiB/s of each member, since it started, was let go, or got other limits */
	/* Sectors done: of each member, for RAID 10 and 1E of the volume; of a rebuild always of the member */
	__u64 task_done_sectors;
	__u64 task_total_sectors; /* Sectors to do in all, likewise */
	__u64 task_mismatch_sectors; /* Sectors that did not agree, as far as the task got */
	__u32 task_eta_seconds; /* Seconds that the task will still take, or EMD_NONE */
	__u32 reserved1; /* 0 */
	/*
	 * Why it is read-only or refused; with EMD_ACCESS_READ_WRITE mostly empty, else what a person
	 * should do, or that it is being filled with zeroes
	 */
	char reason[208];
	/* What a task gets beside users at least, in KiB/s of each member: the limit in force; 0 while it is not started */
	__u32 rate_min_kib;
	__u32 rate_max_kib; /* What it gets at most, likewise; 0 is no limit */
};

/* Record: a member of the volume before it. */
struct emd_rec_member {
	struct emd_rec rec; /* Start */
	__u64 dev; /* major << 32 | minor, or 0 when it is not here */
	__u64 offset_sectors; /* Where it starts on the disk */
	__u64 done_sectors; /* Sectors that are right, while rebuilding; else 0 */
	__u32 disk; /* Index of the disk in the set, or EMD_NONE */
	__u32 slot; /* Slot: span × members + position */
	__u16 state; /* EMD_MEMBER_IN_SYNC … */
	__u16 reserved0; /* 0 */
	__u32 reserved1; /* 0 */
};

/* Record: a remark for people about the set before it, or about a device (in SCAN). */
struct emd_rec_note {
	struct emd_rec rec; /* Start */
	__u64 dev; /* major << 32 | minor, or 0 */
	char text[208]; /* The remark */
};

/* Record: a format. Its levels follow it. */
struct emd_rec_format {
	struct emd_rec rec; /* Start */
	char name[16]; /* Name */
	char description[104]; /* One line for people */
	__u32 chunk_sectors_min; /* Smallest chunk */
	__u32 chunk_sectors_max; /* Largest chunk */
	__u32 chunk_sectors_default; /* Usual chunk */
	__u32 disks_max; /* Most disks in a set */
	__u32 volumes_max; /* Most volumes in a set */
	__u32 name_bytes_max; /* Longest name in bytes */
	__u32 flags; /* EMD_FORMAT_* */
	__u32 spans_max; /* Most spans of a volume; 1: no two-level volumes */
};

/* Record: a place that people should know of. Of the volume before it; bad stretches of disks of the set before it. */
struct emd_rec_range {
	struct emd_rec rec; /* Start */
	/*
	 * First sector: of each member, or of the volume where a sync counts so (RAID 10, 1E); of the
	 * disk, for bad ones
	 */
	__u64 first_sector;
	__u64 sectors; /* Length */
	__u16 what; /* EMD_RANGE_* */
	__u16 flags; /* EMD_RANGE_MORE: there are more (QUERY, SCAN: than are in the answer; MISMATCHES: than are kept) */
	__u32 disk; /* Index of the disk in the set, for bad ones; else EMD_NONE */
	__u16 slot; /* The member that was written because it did not agree (of several, the first); 0xffff: none */
	__u16 reason; /* Why it was that one: EMD_REASON_*; 0: none was */
	__u32 reserved; /* 0 */
};

/* Record: a level in one layout that the format before it can express. */
struct emd_rec_level {
	struct emd_rec rec; /* Start */
	char level[16]; /* Level */
	char layout[24]; /* Layout */
	__u32 members_min; /* Fewest members of a span */
	__u32 members_max; /* Most */
	__u32 flags; /* EMD_LEVEL_* */
	__u32 reserved; /* 0 */
};

/* Version and limits */
#define EMD_IOC_VERSION _IOWR(EMD_IOC_TYPE, EMD_NR_VERSION, struct emd_version)
/* Formats and what they can express */
#define EMD_IOC_FORMATS _IOWR(EMD_IOC_TYPE, EMD_NR_FORMATS, struct emd_list)
/* All sets and volumes in short */
#define EMD_IOC_LIST _IOWR(EMD_IOC_TYPE, EMD_NR_LIST, struct emd_list)
#define EMD_IOC_QUERY _IOWR(EMD_IOC_TYPE, EMD_NR_QUERY, struct emd_query) /* One set in full */
/* Looks for sets and starts them */
#define EMD_IOC_SCAN _IOWR(EMD_IOC_TYPE, EMD_NR_SCAN, struct emd_scan)
/* Makes a set, a volume, or both */
#define EMD_IOC_CREATE _IOWR(EMD_IOC_TYPE, EMD_NR_CREATE, struct emd_create)
#define EMD_IOC_STOP _IOWR(EMD_IOC_TYPE, EMD_NR_STOP, struct emd_stop) /* Stops arrays */
/* Deletes a volume or a set from its disks */
#define EMD_IOC_DELETE _IOWR(EMD_IOC_TYPE, EMD_NR_DELETE, struct emd_delete)
/* Adds, removes, fails a disk; makes it a spare or not */
#define EMD_IOC_MEMBER _IOWR(EMD_IOC_TYPE, EMD_NR_MEMBER, struct emd_member)
#define EMD_IOC_RENAME _IOWR(EMD_IOC_TYPE, EMD_NR_RENAME, struct emd_rename) /* Renames a volume */
/* Starts, pauses, resumes, cancels or limits a task */
#define EMD_IOC_TASK _IOWR(EMD_IOC_TYPE, EMD_NR_TASK, struct emd_task)
/* Moves this open file's place in the stream of events */
#define EMD_IOC_EVENTS _IOWR(EMD_IOC_TYPE, EMD_NR_EVENTS, struct emd_events)
/* Changes what is done about crashes */
#define EMD_IOC_POLICY _IOWR(EMD_IOC_TYPE, EMD_NR_POLICY, struct emd_policy)
/* Places of an array that did not agree, page by page */
#define EMD_IOC_MISMATCHES _IOWR(EMD_IOC_TYPE, EMD_NR_MISMATCHES, struct emd_mismatches)

#endif /* _UAPI_EMD_H */
