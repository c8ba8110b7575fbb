"""What has changed: in what is asked, in what is answered, in the service; and whether objectives are kept.

Pure and synchronous: time is that of the records.
"""
