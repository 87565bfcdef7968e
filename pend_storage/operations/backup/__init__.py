"""Operations on backups: each is one function, called alike by commands and programs."""
