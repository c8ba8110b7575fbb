"""Every check, each behind those that it comes after."""

from gyre.doctor import agreement, answers, files, kafka, machine, reading, record, services

CHECKS = [
    *machine.CHECKS,
    *files.CHECKS,
    *kafka.CHECKS,
    *reading.CHECKS,
    *record.CHECKS,
    *answers.BUNDLE_CHECKS,
    *services.CHECKS,
    *reading.GROUP_CHECKS,
    *answers.LOADED_CHECKS,
    *record.RECORD_CHECKS,
    *agreement.CHECKS,
]
