"""The kinds of sources that a dataset may have; `reading` says what each of them offers."""

from accord_client.data.files import FileSource

Source = FileSource
