"""Who takes part: invitations, enrolments, approvals."""
