"""What released versions wrote (`VERSION.sql`), the job store's code of one (`VERSION.tar.gz`), and what runs it."""
