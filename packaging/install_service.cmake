# What goes beside the program as a service. In the Debian package (prefix /usr) at Debian's places; elsewhere below the
# prefix, which systemd looks at too if it is /usr/local.
set(debian FALSE)
if(CMAKE_INSTALL_PREFIX STREQUAL "/usr")
  set(debian TRUE)
  set(settings /etc/pocketfleet)
  set(units /lib/systemd/system)
else()
  set(settings ${CMAKE_INSTALL_PREFIX}/etc/pocketfleet)
  set(units ${CMAKE_INSTALL_PREFIX}/lib/systemd/system)
endif()
set(CMAKE_INSTALL_FULL_BINDIR ${CMAKE_INSTALL_PREFIX}/${POCKETFLEET_BINDIR})

configure_file(${POCKETFLEET_PACKAGING}/pocketfleet.service.in ${POCKETFLEET_MADE}/pocketfleet.service @ONLY)
file(INSTALL DESTINATION ${units} TYPE FILE FILES
     ${POCKETFLEET_MADE}/pocketfleet.service ${POCKETFLEET_PACKAGING}/pocketfleet.socket)

# What somebody has written there is theirs.
if(NOT EXISTS "$ENV{DESTDIR}${settings}/phones.json")
  file(INSTALL DESTINATION ${settings} TYPE FILE FILES ${POCKETFLEET_PACKAGING}/phones.json)
endif()
if(NOT EXISTS "$ENV{DESTDIR}${settings}/credentials")
  file(MAKE_DIRECTORY ${POCKETFLEET_MADE}/credentials)
  file(INSTALL DESTINATION ${settings} TYPE DIRECTORY FILES ${POCKETFLEET_MADE}/credentials
       DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
endif()

if(debian)
  set(doc /usr/share/doc/pocketfleet)
  foreach(text changelog.Debian changelog)
    set(from ${POCKETFLEET_MADE}/changelog.Debian)
    if(text STREQUAL changelog)
      set(from ${POCKETFLEET_PACKAGING}/../CHANGELOG.md)
    endif()
    execute_process(COMMAND gzip -9nc ${from} OUTPUT_FILE ${POCKETFLEET_MADE}/${text}.gz COMMAND_ERROR_IS_FATAL ANY)
    file(INSTALL DESTINATION ${doc} TYPE FILE FILES ${POCKETFLEET_MADE}/${text}.gz)
  endforeach()
  file(INSTALL DESTINATION ${doc} TYPE FILE FILES ${POCKETFLEET_PACKAGING}/debian/copyright)
  file(INSTALL DESTINATION /usr/share/lintian/overrides TYPE FILE RENAME pocketfleet
       FILES ${POCKETFLEET_PACKAGING}/debian/lintian-overrides)
else()
  file(INSTALL DESTINATION ${CMAKE_INSTALL_PREFIX}/share/doc/pocketfleet TYPE FILE
       FILES ${POCKETFLEET_PACKAGING}/../LICENSE)
endif()
